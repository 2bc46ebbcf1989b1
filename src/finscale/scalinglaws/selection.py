"""What a search would have found with m trials: the guard against unequal searches.

Best-of-n with n falling as models grow looks like inverse scaling. From n *non-adaptive* trials with ordered
losses v_(0) <= ... <= v_(n-1), the expected best of m drawn without replacement is exactly
``sum_k C(n-1-k, m-1) / C(n, m) * v_(k)`` (Dodge et al. 2019, in the form without replacement).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finscale.core.budgets import parse_budget
from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.scalinglaws.trend import slope_test

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MIN_RANDOM_TRIALS",
    "SelectionTrend",
    "best_of_m_table",
    "expected_at_best_of_m",
    "expected_min_of_m",
    "selection_trend",
    "tuning_curve",
]

Floats = NDArray[np.float64]
MIN_RANDOM_TRIALS = 10
MIN_BUDGETS = 3
_COLUMNS = ("budget", "horizon", "kind", "value", "base_rate_loss", "n_params")


class SelectionTrend(Record):
    """The slope of the searches' best values over size, as found and at one search effort.

    Attributes
    ----------
    m : int
        Random trials that every cell is compared at.
    budgets, n_trials : tuple
        Ascending in size; the smallest number of trials with a finite loss among a budget's horizons.
    n_params : tuple of float
        Geometric mean N of the trial expected to be the best of m.
    best_excess_loss, expected_excess_loss : tuple of float
        Mean over the shared horizons: base rate - best of all trials, base rate - expected best of m.
    slope_of_best, slope_of_expected : float
        Nats of excess loss per decade of N: the first is biased by unequal searches, the second is not.
    p_scaling, p_inverse : float
        One-sided, of ``slope_of_expected``.
    """

    m: int
    budgets: tuple[str, ...]
    n_trials: tuple[int, ...]
    n_params: tuple[float, ...]
    best_excess_loss: tuple[float, ...]
    expected_excess_loss: tuple[float, ...]
    slope_of_best: float
    slope_of_expected: float
    p_scaling: float
    p_inverse: float


def expected_min_of_m(losses: ArrayLike, m: int) -> float | None:
    """Return the expected smallest loss of m trials drawn from ``losses`` without replacement.

    Parameters
    ----------
    losses : array_like, shape (n,)
        Losses of non-adaptive trials. A trial without a finite loss (it diverged) was still paid for:
        it counts as one with the worst finite loss.
    m : int
        At least 1.

    Returns
    -------
    float or None
        None when there are fewer than m trials, or none with a finite loss.

    Raises
    ------
    Fault
        When m is below 1.

    Examples
    --------
    >>> expected_min_of_m([3.0, 1.0, 2.0], 2)
    1.3333333333333333
    """
    return expected_at_best_of_m(losses, _paid(losses), m)


def expected_at_best_of_m(losses: ArrayLike, values: ArrayLike, m: int) -> float | None:
    """Return the expectation of ``values`` at the best of m trials, e.g. of its log N.

    Parameters
    ----------
    losses, values : array_like, shape (n,)
        Equal losses share their chance of being the best.

    Returns
    -------
    float or None
        As `expected_min_of_m`.

    Raises
    ------
    Fault
        When m is below 1.
    """
    if m < 1:
        raise Fault("m", "be at least 1", m)
    paid = _paid(losses)
    if len(paid) < m:
        return None
    _, place, counts = np.unique(paid, return_inverse=True, return_counts=True)
    chance = np.bincount(place[np.argsort(paid, kind="stable")], weights=_weights(len(paid), m))
    return float((chance / counts)[place] @ np.asarray(values, dtype=np.float64))


def _paid(losses: ArrayLike) -> Floats:
    """Give a trial without a finite loss the worst one; empty when no loss is finite."""
    values = np.asarray(losses, dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.empty(0)
    return np.where(finite, values, values[finite].max())


def _weights(n: int, m: int) -> Floats:
    """Return C(n-1-k, m-1) / C(n, m) for k = 0..n-1, by its recursion (no large binomials)."""
    k = np.arange(n - 1)
    ratios = np.clip(n - m - k, 0, None) / (n - 1 - k)
    return m / n * np.concatenate([[1.0], np.cumprod(ratios)])


def tuning_curve(losses: ArrayLike) -> Floats:
    """Return the expected best of m for m = 1..n; empty when no loss is finite."""
    ordered = np.sort(_paid(losses))
    return np.array([_weights(len(ordered), m) @ ordered for m in range(1, len(ordered) + 1)])


def best_of_m_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Compare cells at one search effort: the expected best of m random trials, the same m in every cell.

    Parameters
    ----------
    trials : DataFrame
        One row per trial: budget, horizon, kind, value (loss on val_select), base_rate_loss (same rows),
        n_params.

    Returns
    -------
    DataFrame
        One row per cell with a random trial, by size: budget, horizon, n_random, m, expected_loss,
        expected_excess_loss (base rate - expected loss), expected_log10_n (of the trial expected to be the
        best), enough (at least ``MIN_RANDOM_TRIALS`` random trials). m is the smallest n_random of all cells.

    Raises
    ------
    Fault
        When a column is missing.
    """
    import pandas as pd

    missing = [column for column in _COLUMNS if column not in trials.columns]
    if missing:
        raise Fault("trials", f"have the columns {', '.join(_COLUMNS)}", f"none named {', '.join(missing)}")
    groups = [rows for _, rows in trials[trials["kind"] == "random"].groupby(["budget", "horizon"])]
    cells = sorted(groups, key=lambda rows: (parse_budget(rows["budget"].iloc[0]), rows["horizon"].iloc[0]))
    m = min((len(rows) for rows in cells), default=0)
    return pd.DataFrame([_best_of_m(rows, m) for rows in cells], columns=_TABLE)


_TABLE = [
    "budget",
    "horizon",
    "n_random",
    "m",
    "expected_loss",
    "expected_excess_loss",
    "expected_log10_n",
    "enough",
]


def _best_of_m(rows: pd.DataFrame, m: int) -> tuple[object, ...]:
    cell = str(rows["budget"].iloc[0]), int(rows["horizon"].iloc[0])
    losses = rows["value"].to_numpy(dtype=np.float64)
    expected = expected_min_of_m(losses, m)
    base = float(rows["base_rate_loss"].mean())
    excess = None if expected is None else base - expected
    log10_n = np.log10(rows["n_params"].to_numpy(dtype=np.float64, na_value=np.nan))
    size = expected_at_best_of_m(losses, log10_n, m)
    return (*cell, len(rows), m, expected, excess, size, len(rows) >= MIN_RANDOM_TRIALS)


def selection_trend(trials: pd.DataFrame) -> SelectionTrend | None:
    """Test the slope of the searches at one effort, beside that of their best values.

    Parameters
    ----------
    trials : DataFrame
        As `best_of_m_table`, every trial of every search. Horizons present in every budget are averaged.

    Returns
    -------
    SelectionTrend or None
        None with fewer than three budgets of different size that share a horizon and have a finite loss.

    Raises
    ------
    Fault
        When a column is missing.
    """
    table = best_of_m_table(trials).dropna(subset=["expected_loss"])
    horizons = table.groupby("horizon")["budget"].nunique()
    table = table[table["horizon"].isin(horizons.index[horizons == table["budget"].nunique()])]
    if table["budget"].nunique() < MIN_BUDGETS:
        return None
    cells = table.merge(_best_of_all(trials), on=["budget", "horizon"])
    cells["best"] += cells["expected_excess_loss"] + cells["expected_loss"]
    means = cells.groupby("budget").agg(
        log10_n=("expected_log10_n", "mean"),
        expected=("expected_excess_loss", "mean"),
        best=("best", "mean"),
        n_trials=("n_trials", "min"),
    )
    ordered = means.sort_values("log10_n")
    return _tested(ordered, m=int(table["m"].iloc[0])) if np.ptp(ordered["log10_n"]) > 0 else None


def _best_of_all(trials: pd.DataFrame) -> pd.DataFrame:
    """Return per cell the number of finite trials and minus the best loss."""
    finite = trials[np.isfinite(trials["value"].to_numpy(dtype=np.float64))]
    grouped = finite.groupby(["budget", "horizon"])["value"]
    found = grouped.agg(n_trials="size", best="min").reset_index()
    return found.assign(best=-found["best"])


def _tested(means: pd.DataFrame, *, m: int) -> SelectionTrend:
    log10_n = means["log10_n"].to_numpy()
    slopes = slope_test(log10_n, means[["best", "expected"]].to_numpy().T)
    return SelectionTrend(
        m=m,
        budgets=tuple(means.index),
        n_trials=tuple(int(n) for n in means["n_trials"]),
        n_params=tuple((10**log10_n).tolist()),
        best_excess_loss=tuple(means["best"].tolist()),
        expected_excess_loss=tuple(means["expected"].tolist()),
        slope_of_best=float(slopes.slope[0]),
        slope_of_expected=float(slopes.slope[1]),
        p_scaling=float(slopes.p_rise[1]),
        p_inverse=float(slopes.p_fall[1]),
    )
