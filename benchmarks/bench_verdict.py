"""How often is a study wrong? False verdicts of the slope test, and of what one might do instead.

Each simulated study has K budgets, two horizons whose cell noise is correlated, and a known effect of size.
The noise of a cell is that of its seeds and the luck of its search, which is skewed: a winner is a best of
many. Run it with ``python benchmarks/bench_verdict.py``.
"""

import time
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from finscale.core.multiplicity import holm
from finscale.core.seeding import generator
from finscale.metrics.significance import DateBlockInterval, date_block_intervals, date_means, diebold_mariano
from finscale.scalinglaws.exponent import exponent_interval
from finscale.scalinglaws.extrapolation import average_extrapolations
from finscale.scalinglaws.power import detectable_drop
from finscale.scalinglaws.selection import expected_min_of_m
from finscale.scalinglaws.trend import slope_test
from finscale.scalinglaws.verdict import scaling_verdict

N_STUDIES = 20_000
N_SEEDS = 3
CORRELATIONS = (0.0, 0.6, 0.9)
LUCK = (0.0, 0.5, 1.0)
N_TRIALS = (100, 60, 30, 10)


def simulate(
    n_budgets: int, *, correlation: float, drop: float = 0.0, luck: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return log10 N (K,) and excess losses (n_studies, 2 horizons, K); noise of the seeds has SD 1."""
    rng = generator(42, "bench_verdict", n_budgets, str(correlation), str(luck))
    x = 4.3 + np.arange(n_budgets) * 0.5
    seeds = _correlated(rng.normal, n_budgets, correlation)
    lucky = _correlated(lambda size: rng.gumbel(size=size) / 1.2825, n_budgets, correlation)
    return x, seeds + luck * lucky + drop * (x - x[0]) / np.ptp(x)


def _correlated(draw: Callable[..., np.ndarray], n_budgets: int, correlation: float) -> np.ndarray:
    """Return (n_studies, 2, K) of SD 1, a part of it common to both horizons."""
    common, own = np.sqrt(correlation), np.sqrt(1 - correlation)
    return common * draw(size=(N_STUDIES, 1, n_budgets)) + own * draw(size=(N_STUDIES, 2, n_budgets))


def pooled(x: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """One-sided p-values when both horizons' slopes are pooled as if they were independent."""
    separate = slope_test(x, cells)
    slope, df = separate.slope.mean(axis=1), 2 * separate.df
    se = np.sqrt((separate.sigma**2).mean(axis=1) / (2 * ((x - x.mean()) ** 2).sum()))
    return stats.t.sf(slope / se, df)


def seeds_as_data(x: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """One-sided p-values when every seed is a data point; seeds differ by a third of a cell SD."""
    rng = generator(42, "bench_verdict", "seeds")
    seeds = cells.mean(axis=1)[..., None] + rng.normal(0, 1 / 3, (*cells.mean(axis=1).shape, N_SEEDS))
    return slope_test(np.repeat(x, N_SEEDS), seeds.reshape(len(cells), -1)).p_rise


def false_positives() -> None:
    """Print the share of studies without any effect that are called scaling."""
    print(
        f"False `scaling` at nominal 5 % (allowed 6.5 %), {N_STUDIES} studies, two horizons; luck in seed SD"
    )
    print("  K  correlation  luck   verdict   any horizon (Holm)   pooled slopes   seeds as data")
    for n_budgets, correlation, luck in product((4, 6), CORRELATIONS, LUCK):
        x, cells = simulate(n_budgets, correlation=correlation, luck=luck)
        ours = np.mean(slope_test(x, cells.mean(axis=1)).p_rise <= 0.05)
        by_horizon = slope_test(x, cells).p_rise
        any_horizon = np.mean(np.min([holm(p) for p in by_horizon], axis=1) <= 0.05)
        rival, naive = np.mean(pooled(x, cells) <= 0.05), np.mean(seeds_as_data(x, cells) <= 0.05)
        shares = f"{ours:8.1%}  {any_horizon:19.1%}  {rival:14.1%}  {naive:14.1%}"
        print(f"  {n_budgets}  {correlation:>11}  {luck:>4}  {shares}")


def slopes() -> None:
    """Print how often the 95 % interval of the slope holds the true one."""
    print(
        f"\nCoverage of the 95 % interval of the slope (wanted 93-97 %), true drop 3 SD, {N_STUDIES} studies"
    )
    for n_budgets, luck in product((3, 4, 6), LUCK):
        x, cells = simulate(n_budgets, correlation=0.6, drop=3.0, luck=luck)
        low, high = slope_test(x, cells.mean(axis=1)).interval(level=0.95)
        truth = 3.0 / np.ptp(x)
        print(f"  K={n_budgets} luck {luck}: {np.mean((low <= truth) & (truth <= high)):.1%}")


def selection(n_studies: int = 4000) -> None:
    """Print what unequal searches do to the slope without an effect of size, before and after correction."""
    rng = generator(42, "bench_verdict", "selection")
    x = np.arange(len(N_TRIALS), dtype=float)
    trials = [rng.normal(size=(n_studies, n)) for n in N_TRIALS]
    best = -np.column_stack([cell.min(axis=1) for cell in trials])
    m = min(N_TRIALS)
    equal = -np.column_stack([[expected_min_of_m(row, m) for row in cell] for cell in trials])
    counts = "/".join(map(str, N_TRIALS))
    print(f"\nSlope of the best value, decades, {counts} trials of SD 1 and no effect, {n_studies} studies")
    for name, response in (("best of all", best), (f"expected best of {m}", equal)):
        found = slope_test(x, response)
        error = found.slope.std() / np.sqrt(n_studies)
        inverse, scaling = np.mean(found.p_fall <= 0.05), np.mean(found.p_rise <= 0.05)
        print(
            f"  {name:20} |mean slope| {abs(found.slope.mean()):.3f} +- {error:.3f} SD per decade "
            f"(allowed 0.02 once corrected); mean of |slope| in one study {np.abs(found.slope).mean():.3f}; "
            f"called inverse {inverse:.1%}, scaling {scaling:.1%}"
        )


def power() -> None:
    """Print what a true drop would do, and the smallest one that is seen."""
    print("\nShare called `scaling` for a true drop in cell SD (correlation 0.6), and the detectable drop")
    for n_budgets in (4, 6):
        shares = []
        for drop in (2, 5, 10):
            x, cells = simulate(n_budgets, correlation=0.6, drop=drop)
            shares.append(f"{drop} SD {np.mean(slope_test(x, cells.mean(axis=1)).p_rise <= 0.05):.1%}")
        smallest = detectable_drop(x, noise_sd=1.0)
        print(f"  K={n_budgets}: {', '.join(shares)}; one horizon: 80 % power from {smallest:.1f} SD")


def exponents(n_studies: int = 2000) -> None:
    """Print how often alpha is given: for noise, for a law that cannot carry it, and for one that can."""
    print(f"\nalpha `identified`, {n_studies} studies, true 0.3, half-decade budgets, drop in cell SD")
    for n_budgets, drop, wanted in ((4, 0, ""), (6, 0, ""), (4, 5, "<= 10 %"), (6, 50, ">= 95 %")):
        rng = generator(42, "bench_verdict", "exponents", n_budgets, drop)
        n = 10 ** (6.3 + 0.5 * np.arange(n_budgets))
        curve = n**-0.3 / np.ptp(n**-0.3)
        losses = drop * curve + rng.normal(size=(n_studies, n_budgets))
        found = [exponent_interval(n, loss) for loss in losses]
        scaling = slope_test(np.log10(n), -losses).p_rise <= 0.05
        alone = np.array([interval.status == "identified" for interval in found])
        covered = np.mean([interval.low <= 0.3 <= interval.high for interval in found])
        print(
            f"  K={n_budgets} drop {drop:2d}: profile alone {alone.mean():6.1%}, printed (under `scaling`) "
            f"{np.mean(alone & scaling):6.1%}  {wanted:8}  90 % interval covers {covered:.1%}"
        )


def extrapolation(n_studies: int = 400) -> None:
    """Print how often the averaged 90 % band holds the largest budget that was left out."""
    print(f"\nLargest budget left out: coverage of the 90 % band (wanted 80-99 %), {n_studies} studies")
    for n_budgets in (4, 5, 6):
        n = 10 ** (6.3 + 0.5 * np.arange(n_budgets))
        x = np.log10(n / n[0])
        truths = {
            "constant": 0 * x,
            "line, 5 SD": -5 * x / x[-1],
            "line, 20 SD": -20 * x / x[-1],
            "law, 5 SD": 5 * (n / n[0]) ** -0.3,
            "law, 20 SD": 20 * (n / n[0]) ** -0.3,
            "law, 50 SD": 50 * (n / n[0]) ** -0.3,
        }
        shares = []
        for name, truth in truths.items():
            rng = generator(42, "bench_verdict", "extrapolation", n_budgets, name)
            found = [average_extrapolations(n, truth + rng.normal(size=n_budgets)) for _ in range(n_studies)]
            shares.append(f"{name} {np.mean([band.inside for band in found]):.1%}")
        print(f"  K={n_budgets}: {', '.join(shares)}")


def intervals(n_series: int = 500, n_dates: int = 600) -> None:
    """Print the coverage of the date-block interval and the size of Diebold-Mariano, overlapping labels."""
    print(f"\nZero-mean differences with overlapping labels, {n_dates} dates, {n_series} series")
    print("  horizon   date blocks cover   independent rows cover   Diebold-Mariano rejects (5 %)")
    for horizon in (1, 5, 10):
        rng = generator(42, "bench_verdict", "intervals", horizon)
        noise = rng.normal(size=(n_series, n_dates + horizon - 1))
        series = [np.convolve(row, np.ones(horizon), "valid") for row in noise]
        found = [_interval(y, horizon, seed) for seed, y in enumerate(series)]
        covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
        naive = np.mean([abs(y.mean()) <= 1.96 * y.std() / np.sqrt(n_dates) for y in series])
        rejected = np.mean([diebold_mariano(y, 0 * y, horizon=horizon).p_value < 0.05 for y in series])
        print(f"  {horizon:7d}  {covered:18.1%}  {naive:23.1%}  {rejected:30.1%}")


def _interval(y: np.ndarray, horizon: int, seed: int) -> DateBlockInterval:
    return date_block_intervals(pd.DataFrame({"d": y}), horizon=horizon, seed=seed, n_draws=500)["d"]


def many_instruments(n_series: int = 300, n_dates: int = 750, n_instruments: int = 30) -> None:
    """Print the coverage over 30 instruments that share a market, and that of rows taken as independent."""
    print(f"\n{n_instruments} instruments, {n_dates} dates, {n_series} series: coverage at nominal 95 %")
    for horizon in (1, 5):
        rng = generator(42, "bench_verdict", "instruments", horizon)
        by_date, by_row = [], []
        for seed in range(n_series):
            shape = (n_instruments + 1, n_dates + horizon - 1)
            noise = np.apply_along_axis(np.convolve, 1, rng.normal(size=shape), np.ones(horizon), "valid")
            rows = np.sqrt(0.3) * noise[0] + np.sqrt(0.7) * noise[1:]
            dates = np.broadcast_to(np.arange(n_dates), rows.shape).ravel()
            interval = _interval(date_means(dates, rows.ravel()).to_numpy(), horizon, seed)
            by_date.append(interval.low <= 0 <= interval.high)
            by_row.append(abs(rows.mean()) <= 1.96 * rows.std() / np.sqrt(rows.size))
        wanted = f"blocks of dates {np.mean(by_date):.1%} (wanted 90-97 %)"
        print(f"  horizon {horizon}: {wanted}, independent rows {np.mean(by_row):.1%}")


def speed() -> None:
    """Print the time of one whole verdict."""
    x, cells = simulate(4, correlation=0.6)
    rows = [
        (round(10 ** x[k]), h, round(10 ** x[k]), 0, "val_score", cells[0, h - 1, k])
        for k in range(4)
        for h in (1, 2)
    ]
    table = pd.DataFrame(rows, columns=["n_budget", "horizon", "n_params", "seed", "split", "excess_loss"])
    started = time.perf_counter()
    for _ in range(20):
        scaling_verdict(table)
    print(f"\nOne verdict on 8 cells: {(time.perf_counter() - started) / 20 * 1e3:.0f} ms")


if __name__ == "__main__":
    false_positives()
    slopes()
    selection()
    power()
    exponents()
    extrapolation()
    intervals()
    many_instruments()
    speed()
