"""How often is a study wrong? False verdicts of the slope test, and of what one might do instead.

Each simulated study has K budgets, two horizons whose cell noise is correlated, and no effect of size. Run it
with ``python benchmarks/bench_verdict.py``.
"""

import time

import numpy as np
import pandas as pd
from scipy import stats

from finscale.core.seeding import generator
from finscale.metrics.significance import DateBlockInterval, date_block_intervals, diebold_mariano
from finscale.scalinglaws.exponent import exponent_interval
from finscale.scalinglaws.power import detectable_drop
from finscale.scalinglaws.trend import holm, slope_test
from finscale.scalinglaws.verdict import scaling_verdict

N_STUDIES = 20_000
N_SEEDS = 3
CORRELATIONS = (0.0, 0.6, 0.9)


def simulate(n_budgets: int, *, correlation: float, drop: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return log10 N (K,) and excess losses (n_studies, 2 horizons, K) in cell SD."""
    rng = generator(42, "bench_verdict", n_budgets, str(correlation))
    x = 4.3 + np.arange(n_budgets) * 0.5
    common, own = np.sqrt(correlation), np.sqrt(1 - correlation)
    shared = common * rng.normal(size=(N_STUDIES, 1, n_budgets))
    noise = shared + own * rng.normal(size=(N_STUDIES, 2, n_budgets))
    return x, noise + drop * (x - x[0]) / np.ptp(x)


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
    print(f"False `scaling` at nominal 5 %, {N_STUDIES} studies, two horizons")
    print("  K  correlation   verdict   any horizon (Holm)   pooled slopes   seeds as data")
    for n_budgets in (4, 6):
        for correlation in CORRELATIONS:
            x, cells = simulate(n_budgets, correlation=correlation)
            ours = np.mean(slope_test(x, cells.mean(axis=1)).p_rise <= 0.05)
            by_horizon = slope_test(x, cells).p_rise
            any_horizon = np.mean(np.min([holm(p) for p in by_horizon], axis=1) <= 0.05)
            rival, naive = np.mean(pooled(x, cells) <= 0.05), np.mean(seeds_as_data(x, cells) <= 0.05)
            shares = f"{ours:8.1%}  {any_horizon:19.1%}  {rival:14.1%}  {naive:14.1%}"
            print(f"  {n_budgets}  {correlation:>11}  {shares}")


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


def exponents(n_studies: int = 1000) -> None:
    """Print how often an exponent would be printed for pure noise."""
    print(f"\nExponent `identified` in noise without any effect, {n_studies} studies")
    for n_budgets in (4, 6):
        x, cells = simulate(n_budgets, correlation=0.6)
        losses = -cells.mean(axis=1)[:n_studies]
        found = [exponent_interval(10**x, loss).status == "identified" for loss in losses]
        rising = slope_test(x, -losses).p_rise <= 0.05
        alone, printed = np.mean(found), np.mean(found & rising)
        print(f"  K={n_budgets}: profile alone {alone:.2%}, and under `scaling` {printed:.2%}")


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
    power()
    exponents()
    intervals()
    speed()
