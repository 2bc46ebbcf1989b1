"""What a search would have found with m trials: the guard against unequal searches.

Best-of-n with n falling as models grow looks like inverse scaling. From n *non-adaptive* trials with ordered
losses v_(0) <= ... <= v_(n-1), the expected best of m drawn without replacement is exactly
``sum_k C(n-1-k, m-1) / C(n, m) * v_(k)`` (Dodge et al. 2019, in the form without replacement).
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from finscale.core.budgets import parse_budget
from finscale.core.errors import Fault

__all__ = ["MIN_RANDOM_TRIALS", "best_of_m_table", "expected_min_of_m", "tuning_curve"]

Floats = NDArray[np.float64]
MIN_RANDOM_TRIALS = 10
_COLUMNS = ("budget", "horizon", "kind", "value", "base_rate_loss")


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
    if m < 1:
        raise Fault("m", "be at least 1", m)
    ordered = _ordered(losses)
    if len(ordered) < m:
        return None
    return float(_weights(len(ordered), m) @ ordered)


def _ordered(losses: ArrayLike) -> Floats:
    values = np.asarray(losses, dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.empty(0)
    return np.sort(np.where(finite, values, values[finite].max()))


def _weights(n: int, m: int) -> Floats:
    """Return C(n-1-k, m-1) / C(n, m) for k = 0..n-1, by its recursion (no large binomials)."""
    k = np.arange(n - 1)
    ratios = np.clip(n - m - k, 0, None) / (n - 1 - k)
    return m / n * np.concatenate([[1.0], np.cumprod(ratios)])


def tuning_curve(losses: ArrayLike) -> Floats:
    """Return the expected best of m for m = 1..n; empty when no loss is finite."""
    ordered = _ordered(losses)
    return np.array([_weights(len(ordered), m) @ ordered for m in range(1, len(ordered) + 1)])


def best_of_m_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Compare cells at one search effort: the expected best of m random trials, the same m in every cell.

    Parameters
    ----------
    trials : DataFrame
        One row per trial: budget, horizon, kind, value (loss on val_select), base_rate_loss (same rows).

    Returns
    -------
    DataFrame
        One row per cell with a random trial, by size: budget, horizon, n_random, m, expected_loss,
        expected_excess_loss (base rate - expected loss), enough (at least ``MIN_RANDOM_TRIALS`` random
        trials). m is the smallest n_random of all cells.

    Raises
    ------
    Fault
        When a column is missing.
    """
    missing = [column for column in _COLUMNS if column not in trials.columns]
    if missing:
        raise Fault("trials", f"have the columns {', '.join(_COLUMNS)}", f"none named {', '.join(missing)}")
    groups = [rows for _, rows in trials[trials["kind"] == "random"].groupby(["budget", "horizon"])]
    cells = sorted(groups, key=lambda rows: (parse_budget(rows["budget"].iloc[0]), rows["horizon"].iloc[0]))
    m = min((len(rows) for rows in cells), default=0)
    return pd.DataFrame([_best_of_m(rows, m) for rows in cells], columns=_TABLE)


_TABLE = ["budget", "horizon", "n_random", "m", "expected_loss", "expected_excess_loss", "enough"]


def _best_of_m(rows: pd.DataFrame, m: int) -> tuple[object, ...]:
    cell = str(rows["budget"].iloc[0]), int(rows["horizon"].iloc[0])
    expected = expected_min_of_m(rows["value"].to_numpy(dtype=np.float64), m)
    base = float(rows["base_rate_loss"].mean())
    excess = None if expected is None else base - expected
    return (*cell, len(rows), m, expected, excess, len(rows) >= MIN_RANDOM_TRIALS)
