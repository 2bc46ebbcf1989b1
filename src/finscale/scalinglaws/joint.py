"""The joint law ``L(N, D) = E + A / N**alpha + B / D**beta`` and how well its optimum was found.

N parameters, D training tokens, n points. Hoffmann et al. (2022), "Training compute-optimal large language
models", approach 3: Huber loss on log L, minimised from many starts. We minimise the sum (Besiroglu et al.
2024 show what a mean does to a stopping rule) with analytic derivatives, and report how many starts agree.
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy import optimize

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.scalinglaws.forms import ALPHA_BOUNDS
from finscale.scalinglaws.joint_objective import JointProblem
from finscale.scalinglaws.newton import Minimum, Surface, minimise

__all__ = [
    "HUBER_DELTA",
    "JOINT_NAMES",
    "JointData",
    "JointFit",
    "JointStatus",
    "bounds_of",
    "fit_joint",
    "joint_data",
    "law_of",
    "minimise_joint",
    "predict_joint",
    "starts_at",
    "theta_of",
]

Floats = NDArray[np.float64]
JointStatus = Literal[
    "ok",
    "not_converged",
    "too_few_points",
    "constant_n",
    "constant_d",
    "too_few_levels",
    "n_and_d_move_together",
    "nonpositive_loss",
    "ties",
]
HUBER_DELTA = 1e-3
JOINT_NAMES = ("E", "A", "alpha", "B", "beta")
_MIN_POINTS = 6
_MIN_LEVELS = 3
_COLLINEAR = 1 - 1e-6
_AGREES = 1e-6
_CONVERGED = 1e-6
_NEGLIGIBLE = 1e-6
_DEPTH = 25.0
_START_EXPONENTS = np.geomspace(0.08, 1.2, 6)
_START_FLOORS = (0.3, 0.8)


class JointFit(Record):
    """The joint law fitted to points, or the reason why it was refused.

    Attributes
    ----------
    status : str
        ``constant_d`` when D does not vary: the law would be N's alone. ``not_converged`` keeps the numbers.
    parameters : dict
        E, A, alpha, B, beta in absolute N and D; empty when refused.
    objective : float or None
        Sum over points of ``huber(log predicted - log L)``.
    residual_sd : float or None
        Root mean square residual of log L on n - 5 degrees of freedom.
    n_starts, n_agreeing, n_converged : int
        Starts; those that ended within 1e-6 (relative) of the best objective; those whose gradient vanished.
    bound_hits : tuple of str
        Parameters at a bound: an exponent at an end of ``ALPHA_BOUNDS``, a term that vanished (E, A or B).
    relative_gradient : float or None
        Largest gradient entry over the size of the terms it sums.
    """

    status: JointStatus
    n_points: int
    n_dropped: int
    huber_delta: float
    parameters: dict[str, float] = Field(default_factory=dict)
    objective: float | None = None
    residual_sd: float | None = None
    n_starts: int = 0
    n_agreeing: int = 0
    n_converged: int = 0
    bound_hits: tuple[str, ...] = ()
    relative_gradient: float | None = None


@dataclass(frozen=True)
class JointData:
    """Finite points with positive N and D, in the order given; ``n_dropped`` were not."""

    n_params: Floats
    n_tokens: Floats
    loss: Floats
    n_dropped: int


def joint_data(n_params: ArrayLike, n_tokens: ArrayLike, loss: ArrayLike) -> JointData:
    """Return the usable points.

    Raises
    ------
    Fault
        When the arrays are not one-dimensional and of one length.
    """
    columns = [np.asarray(values, dtype=np.float64) for values in (n_params, n_tokens, loss)]
    shapes = [column.shape for column in columns]
    if columns[0].ndim != 1 or len(set(shapes)) > 1:
        raise Fault("n_params, n_tokens and loss", "have one shape, in one dimension", shapes)
    usable = np.isfinite(columns).all(axis=0) & (columns[0] > 0) & (columns[1] > 0)
    n, d, y = (column[usable] for column in columns)
    return JointData(n, d, y, int((~usable).sum()))


def fit_joint(
    n_params: ArrayLike,
    n_tokens: ArrayLike,
    loss: ArrayLike,
    *,
    huber_delta: float = HUBER_DELTA,
    starts: Floats | None = None,
) -> JointFit:
    """Fit the joint law from many starts.

    Parameters
    ----------
    n_params, n_tokens, loss : array_like, shape (n,)
        Points that are not finite, or with N or D not positive, are dropped and counted.
    huber_delta : float
        Residuals of log L beyond it count linearly; positive, ``inf`` for least squares.
    starts : ndarray, shape (S, 5), optional
        Rows of E, A, alpha, B, beta, all positive; a grid of exponents and floors by default.

    Raises
    ------
    Fault
        When the arrays differ in length, or ``huber_delta`` is not positive.

    Examples
    --------
    >>> n, d = np.meshgrid([1e6, 1e7, 1e8], [1e8, 1e9, 1e10])
    >>> found = fit_joint(n.ravel(), d.ravel(), (1.7 + 400 / n**0.34 + 410 / d**0.28).ravel())
    >>> found.status, round(found.parameters["alpha"], 3), round(found.parameters["beta"], 3)
    ('ok', 0.34, 0.28)
    """
    if not huber_delta > 0:
        raise Fault("huber_delta", "be positive", huber_delta)
    data = joint_data(n_params, n_tokens, loss)
    counts = {"n_points": len(data.loss), "n_dropped": data.n_dropped, "huber_delta": huber_delta}
    refusal = _refusal(data)
    if refusal is not None:
        return JointFit(status=refusal, **counts)
    problem = JointProblem.of(data.n_params, data.n_tokens, data.loss, huber_delta=huber_delta)
    theta = _default_starts(problem) if starts is None else theta_of(problem, starts)
    found = minimise_joint(problem, theta, np.ones((1, len(data.loss))))
    return JointFit(**counts, **_summary(problem, found))


def minimise_joint(
    problem: JointProblem,
    start: Floats,
    weights: Floats,
    *,
    low: Floats | None = None,
    high: Floats | None = None,
) -> Minimum:
    """Minimise from every row of ``start`` (S, 5) under ``weights`` (S, n), or (1, n) for all alike."""
    lowest, highest = bounds_of(problem)
    shape = (len(start), len(lowest))
    shared = len(weights) == 1

    def evaluate(theta: Floats, rows: NDArray[np.intp]) -> Surface:
        return problem.surface(theta, weights if shared else weights[rows])

    return minimise(
        evaluate,
        start,
        low=np.broadcast_to(lowest if low is None else low, shape),
        high=np.broadcast_to(highest if high is None else high, shape),
    )


def bounds_of(problem: JointProblem) -> tuple[Floats, Floats]:
    """Return the box of (a, b, e, alpha, beta): exponents in ``ALPHA_BOUNDS``, terms from nothing upwards."""
    floor, top = float(problem.z.min()), float(problem.z.max())
    low = np.array([floor - _DEPTH] * 3 + [ALPHA_BOUNDS[0]] * 2)
    high = np.array([top + _DEPTH] * 2 + [top] + [ALPHA_BOUNDS[1]] * 2)
    return low, high


def law_of(problem: JointProblem, theta: Floats) -> Floats:
    """Return E, A, alpha, B, beta, shape (S, 5), from (a, b, e, alpha, beta)."""
    a, b, e, alpha, beta = theta.T
    scales = np.exp(a + alpha * problem.centre_x), np.exp(b + beta * problem.centre_y)
    return np.stack([np.exp(e), scales[0], alpha, scales[1], beta], axis=1)


def theta_of(problem: JointProblem, law: Floats) -> Floats:
    """Return (a, b, e, alpha, beta), shape (S, 5), from positive E, A, alpha, B, beta."""
    floor, scale_n, alpha, scale_d, beta = np.asarray(law, dtype=np.float64).T
    a, b = np.log(scale_n) - alpha * problem.centre_x, np.log(scale_d) - beta * problem.centre_y
    return np.stack([a, b, np.log(floor), alpha, beta], axis=1)


def predict_joint(parameters: dict[str, float], n_params: ArrayLike, n_tokens: ArrayLike) -> Floats:
    """Return the loss that the law predicts at N and D.

    Examples
    --------
    >>> float(predict_joint({"E": 1.0, "A": 10.0, "alpha": 0.5, "B": 10.0, "beta": 1.0}, 100.0, 10.0))
    3.0
    """
    n, d = np.asarray(n_params, dtype=np.float64), np.asarray(n_tokens, dtype=np.float64)
    terms = parameters["A"] * n ** -parameters["alpha"] + parameters["B"] * d ** -parameters["beta"]
    return np.asarray(parameters["E"] + terms)


def _refusal(data: JointData) -> JointStatus | None:
    n, d, y = data.n_params, data.n_tokens, data.loss
    if len(y) < _MIN_POINTS:
        return "too_few_points"
    if np.any(y <= 0):
        return "nonpositive_loss"
    if np.ptp(np.log(n)) < 1e-9 or np.ptp(np.log(d)) < 1e-9:
        return "constant_n" if np.ptp(np.log(n)) < 1e-9 else "constant_d"
    if np.ptp(y) <= 1e-12 * y.max():
        return "ties"
    if abs(np.corrcoef(np.log(n), np.log(d))[0, 1]) > _COLLINEAR:
        return "n_and_d_move_together"
    few = min(len(np.unique(n)), len(np.unique(d))) < _MIN_LEVELS
    return "too_few_levels" if few else None


def _default_starts(problem: JointProblem) -> Floats:
    """Return (S, 5): for a grid of exponents the best non-negative E, A, B, then with E held at a share."""
    pairs = product(_START_EXPONENTS, _START_EXPONENTS)
    return np.array([start for pair in pairs for start in starts_at(problem, alpha=pair[0], beta=pair[1])])


def starts_at(problem: JointProblem, *, alpha: float, beta: float) -> list[Floats]:
    """Return starts (a, b, e, alpha, beta) with the best non-negative E, A, B at two exponents."""
    loss = np.exp(problem.z)
    terms = np.stack([np.exp(-alpha * problem.x), np.exp(-beta * problem.y)]) / loss
    smallest = 1e-3 * float(loss.min())
    e, a, b = optimize.nnls(np.vstack([1 / loss, terms]).T, np.ones_like(loss))[0]
    found = [(a, b, e)]
    for share in _START_FLOORS:
        held = share * float(loss.min())
        a, b = optimize.nnls(terms.T, 1 - held / loss)[0]
        found.append((a, b, held))
    return [np.append(np.log(np.maximum(scales, smallest)), (alpha, beta)) for scales in found]


def _summary(problem: JointProblem, found: Minimum) -> dict:
    best = int(np.argmin(found.value))
    objective, gradient = float(found.value[best]), float(found.relative_gradient[best])
    converged = found.relative_gradient <= _CONVERGED
    exact = objective <= 1e-24 * len(problem.z)
    r = problem.residuals(found.theta[best : best + 1])[0]
    law = law_of(problem, found.theta[best : best + 1])[0]
    return {
        "status": "ok" if converged[best] or exact else "not_converged",
        "parameters": dict(zip(JOINT_NAMES, law.tolist(), strict=True)),
        "objective": objective,
        "residual_sd": float(np.sqrt((r**2).sum() / (len(r) - len(law)))),
        "n_starts": len(found.value),
        "n_agreeing": int((found.value <= objective * (1 + _AGREES) + 1e-24).sum()),
        "n_converged": int(converged.sum()),
        "bound_hits": _bound_hits(problem, found.theta[best]),
        "relative_gradient": gradient,
    }


def _bound_hits(problem: JointProblem, theta: Floats) -> tuple[str, ...]:
    a, b, e, alpha, beta = theta
    nothing = float(problem.z.min()) + np.log(_NEGLIGIBLE)
    reached = {
        "E": e < nothing,
        "A": a + alpha * np.abs(problem.x).max() < nothing,
        "alpha": min(abs(alpha - end) for end in ALPHA_BOUNDS) < 1e-9,
        "B": b + beta * np.abs(problem.y).max() < nothing,
        "beta": min(abs(beta - end) for end in ALPHA_BOUNDS) < 1e-9,
    }
    return tuple(name for name, hit in reached.items() if hit)
