"""Do the fits reach the optimum, and how fast? Beside a plain SciPy reference of 1,000 starts.

Run with ``python benchmarks/bench_fits.py``; with ``FINSCALE_TEST_DATA`` set it also fits the 104 language
models of Gadre et al. (2024).
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize

from finscale.core.seeding import generator
from finscale.scalinglaws.exponent import profile_alpha
from finscale.scalinglaws.forms import ALPHA_BOUNDS
from finscale.scalinglaws.joint import fit_joint
from finscale.scalinglaws.joint_profile import profile_joint
from finscale.scalinglaws.resampling import bootstrap_joint, bootstrap_power_law, bootstrap_weights

N_STARTS = 1000
N_JOINT_DRAWS, N_POINTS = 4000, 240
N_SIZE_DRAWS = 10_000
ALLOWED_S = {"joint": 2.0, "size": 0.1}
TOLERANCE = 1e-9
TRUE_ALPHA = 0.34
LADDER = np.array([2e6, 6e6, 2e7, 6e7])

Points = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulated(n_points: int, *, noise_sd: float, name: str) -> Points:
    """Draw N, D and L of the law of Hoffmann et al. (2022) with noise on log L."""
    rng = generator(42, "bench_fits", name)
    n, d = 10 ** rng.uniform(6, 9, n_points), 10 ** rng.uniform(8, 11, n_points)
    loss = 1.69 + 406.4 * n**-TRUE_ALPHA + 410.7 * d**-0.28
    return n, d, loss * np.exp(rng.normal(0, noise_sd, n_points))


def datasets() -> Iterator[tuple[str, Points]]:
    yield "simulated, 240 points, 1 % noise", simulated(N_POINTS, noise_sd=0.01, name="240")
    yield "simulated, 30 points, 3 % noise", simulated(30, noise_sd=0.03, name="30")
    folder = os.environ.get("FINSCALE_TEST_DATA")
    if folder is None:
        return
    runs = pd.read_csv(Path(folder) / "gadre_openlm_104.csv")
    for column in ("loss_c4_val", "loss_openlm"):
        yield f"Gadre et al., {column}", tuple(runs[name].to_numpy(float) for name in ("N", "D", column))


class Reference:
    """The joint law in plain NumPy, minimised by SciPy; gradient only, one start after the other."""

    def __init__(self, points: Points, *, huber_delta: float, weights: np.ndarray | float = 1.0) -> None:
        n, d, loss = (np.log(column) for column in points)
        self.n, self.d, self.loss, self.weights = n - n.mean(), d - d.mean(), loss, weights
        self.delta = huber_delta
        low, high = loss.min() - 25, loss.max() + 25
        self.bounds = [(low, high), (low, high), (low, loss.max()), ALPHA_BOUNDS, ALPHA_BOUNDS]

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return value and gradient at (a, b, e, alpha, beta)."""
        a, b, e, alpha, beta = theta
        terms = np.exp([a - alpha * self.n, b - beta * self.d, e + 0 * self.n])
        predicted = terms.sum(axis=0)
        r = np.log(predicted) - self.loss
        size = np.abs(r)
        value = np.where(size <= self.delta, r**2 / 2, self.delta * (size - self.delta / 2))
        shares = terms / predicted * np.clip(r, -self.delta, self.delta) * self.weights
        gradient = [*shares.sum(axis=1), -(shares[0] @ self.n), -(shares[1] @ self.d)]
        return float((self.weights * value).sum()), np.array(gradient)

    def minimise(self, start: np.ndarray) -> float:
        """Return the objective where one start ends."""
        options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-16, "gtol": 1e-14}
        keywords = {"jac": True, "method": "L-BFGS-B", "bounds": self.bounds, "options": options}
        return float(optimize.minimize(self, start, **keywords).fun)

    def starts(self, n_starts: int) -> np.ndarray:
        """Return random starts, shape (n_starts, 5)."""
        rng = generator(42, "bench_fits", "starts")
        centre = self.loss.mean()
        scales = centre + rng.uniform(-6, 0.5, (n_starts, 3))
        return np.column_stack([scales, rng.uniform(0.03, 1.4, (n_starts, 2))])


def optimum() -> None:
    """Print how far the fit lies above the best of the reference's starts."""
    print(f"Joint law against {N_STARTS} starts of L-BFGS-B: (ours - best) / best, allowed {TOLERANCE:.0e}")
    for name, points in datasets():
        for delta in (1e-3, 1e-2, np.inf):
            started = time.perf_counter()
            found = fit_joint(*points, huber_delta=delta)
            ours_s = time.perf_counter() - started
            started = time.perf_counter()
            reference = Reference(points, huber_delta=delta)
            ends = np.array([reference.minimise(start) for start in reference.starts(N_STARTS)])
            theirs_s, best = time.perf_counter() - started, ends.min()
            excess = found.objective / best - 1
            within = np.mean(ends <= best * (1 + 1e-6))
            print(
                f"  {name:34} delta {delta:<6} {excess:+.1e} {'ok' if excess <= TOLERANCE else 'ABOVE'}; "
                f"{found.n_agreeing} of {found.n_starts} starts agree in {ours_s:.2f} s, "
                f"{within:.0%} of the reference's in {theirs_s:.0f} s"
            )


def joint_bootstrap(n_checked: int = 20) -> None:
    """Print the time of a bootstrap of the joint law, and the worst draw against SciPy from its optimum."""
    points = simulated(N_POINTS, noise_sd=0.01, name="240")
    weights = bootstrap_weights(N_POINTS, n_draws=N_JOINT_DRAWS, rng=generator(42, "bench_fits", "weights"))
    print(f"\nBootstrap of the joint law: {N_JOINT_DRAWS} draws on {N_POINTS} points")
    for delta in (1e-3, 1e-2):
        fitted = fit_joint(*points, huber_delta=delta)
        started = time.perf_counter()
        draws = bootstrap_joint(*points, fitted=fitted, weights=weights)
        wall_s = time.perf_counter() - started
        started, excess = time.perf_counter(), []
        for k in range(n_checked):
            reference = Reference(points, huber_delta=delta, weights=weights[k])
            best = min(reference.minimise(start) for start in reference.starts(10))
            excess.append(draws.objective[k] / best - 1)
        theirs_s = (time.perf_counter() - started) / n_checked / 10 * N_JOINT_DRAWS
        print(
            f"  delta {delta}: {wall_s:.2f} s (allowed {ALLOWED_S['joint']} s), {draws.converged.mean():.1%} "
            f"converged, worst of {n_checked} draws {max(excess):+.1e}; SciPy, one start a draw: "
            f"{theirs_s:.0f} s"
        )


def profiles(n_studies: int = 100) -> None:
    """Print how often the 90 % profile interval and the 90 % bootstrap interval of alpha hold the truth."""
    print(f"\nalpha of the joint law at nominal 90 %, 36 points, 1 % noise, {n_studies} studies")
    for delta in (1e-3, 1e-2, np.inf):
        by_profile, by_draws = [], []
        for study in range(n_studies):
            points = simulated(36, noise_sd=0.01, name=f"profile {study}")
            fitted = fit_joint(*points, huber_delta=delta)
            found = profile_joint(*points, fitted=fitted, parameter="alpha")
            by_profile.append(found.low <= TRUE_ALPHA <= found.high)
            weights = bootstrap_weights(36, n_draws=400, rng=generator(42, "bench_fits", "draws", study))
            drawn = bootstrap_joint(*points, fitted=fitted, weights=weights).intervals(level=0.90)[2]
            by_draws.append(drawn.low <= TRUE_ALPHA <= drawn.high)
        print(f"  delta {delta:<6} profile {np.mean(by_profile):.0%}, bootstrap {np.mean(by_draws):.0%}")


def size_bootstrap(n_checked: int = 200) -> None:
    """Print the time of a bootstrap of the one-variable law over four cells, beside SciPy's."""
    rng = generator(42, "bench_fits", "size")
    loss = 1 + 0.5 * (LADDER / LADDER[0]) ** -0.3 + rng.normal(0, 0.02, 4)
    weights = bootstrap_weights(4, n_draws=N_SIZE_DRAWS, rng=rng)
    started = time.perf_counter()
    draws = bootstrap_power_law(LADDER, loss, weights=weights)
    wall_s = time.perf_counter() - started
    started = time.perf_counter()
    ends = [_scipy_size(loss, row) for row in weights[:n_checked]]
    theirs_s = (time.perf_counter() - started) / n_checked * N_SIZE_DRAWS
    excess = max(draws.objective[k] / end - 1 for k, end in enumerate(ends))
    print(
        f"\nBootstrap of E + A N**-alpha: {N_SIZE_DRAWS} draws on 4 cells in {wall_s:.3f} s (allowed "
        f"{ALLOWED_S['size']} s); worst of {n_checked} draws {excess:+.1e}; "
        f"SciPy with 4 starts: {theirs_s:.0f} s"
    )
    profile = profile_alpha(LADDER, loss)
    print(f"  equal weights: {float(profile.line.rss) / _scipy_size(loss, np.ones(4)) - 1:+.1e}")


def _scipy_size(loss: np.ndarray, weights: np.ndarray) -> float:
    ratio, root = np.log(LADDER / LADDER[0]), np.sqrt(weights)

    def residuals(p: np.ndarray) -> np.ndarray:
        return root * (p[0] + p[1] * np.exp(-p[2] * ratio) - loss)

    bounds = ([-np.inf, 0.0, ALPHA_BOUNDS[0]], [np.inf, np.inf, ALPHA_BOUNDS[1]])
    tolerances = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    starts = [(0.5, 0.5, alpha) for alpha in (0.05, 0.3, 0.8, 1.3)]
    return min(2 * optimize.least_squares(residuals, s, bounds=bounds, **tolerances).cost for s in starts)


if __name__ == "__main__":
    size_bootstrap()
    joint_bootstrap()
    profiles()
    optimum()
