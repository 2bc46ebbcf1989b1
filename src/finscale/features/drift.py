"""How far the features of validation and test have drifted from those of training.

PSI population stability index, KS two-sample Kolmogorov-Smirnov statistic; n rows of a split.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from finscale.core.errors import Fault

__all__ = ["DRIFT_LIMITS", "SHARE_FLOOR", "drift_report", "population_stability"]

Vector = NDArray[np.float64]

TRAIN = "train"
N_BINS = 10

SHARE_FLOOR = 1e-4
"""An empty bin counts as this share of its rows, so that one empty bin costs about 0.7 and not infinity."""

DRIFT_LIMITS = (("stable", 0.1), ("moderate", 0.25))
"""PSI below which a feature is called so; from 0.25 on the drift is ``large`` (Siddiqi 2006)."""


def drift_report(frame: pd.DataFrame, rows: Mapping[str, NDArray[np.int64]]) -> pd.DataFrame:
    """Compare every feature's distribution in each later split with that of training.

    Rows of one date, and of neighbouring dates, move together: a few hundred sessions of a slow feature
    are a handful of independent ones. The statistics are sizes, not tests; a large one on a level (a
    moving average of a rising price) is the rule, and no p-value is given because none would be honest.

    Parameters
    ----------
    frame : DataFrame
        Features (n_rows, F), not standardised or standardised alike: both statistics read ranks.
    rows : mapping
        Rows of each split, by name; ``train`` among them (`WindowData.origins`). A split without rows is
        left out.

    Returns
    -------
    DataFrame
        Columns feature, split, psi, ks (0 to 1), drift (stable, moderate or large, by the PSI), n; one row
        per feature and split other than ``train``.

    Raises
    ------
    Fault
        Without training rows.
    """
    if not len(rows.get(TRAIN, ())):
        remedy = "give the rows of training"
        raise Fault(
            "drift", f"be measured against rows of the split {TRAIN}", f"none in {list(rows)}", remedy
        )
    later = [split for split, at in rows.items() if split != TRAIN and len(at)]
    values = frame.to_numpy(dtype=np.float64)
    found = [
        _compare(str(name), split, values[rows[TRAIN], column], values[rows[split], column])
        for column, name in enumerate(frame.columns)
        for split in later
    ]
    return pd.DataFrame(found, columns=["feature", "split", "psi", "ks", "drift", "n"])


def population_stability(train: Vector, other: Vector) -> float:
    """Return the PSI, sum over bins of (b - a) log(b / a), a and b the shares of train and other.

    The bins are the deciles of training (Siddiqi 2006). A value that holds more than a decile is a bin of
    its own, so a constant has three: below it, at it, above it. An empty bin counts as 1e-4.
    """
    edges = _edges(train)
    a, b = (np.maximum(_shares(values, edges), SHARE_FLOOR) for values in (train, other))
    return float(((b - a) * np.log(b / a)).sum())


def _compare(feature: str, split: str, train: Vector, other: Vector) -> tuple[object, ...]:
    psi = population_stability(train, other)
    ks = float(ks_2samp(train, other, method="asymp").statistic)
    return feature, split, psi, ks, _word(psi), len(other)


def _edges(train: Vector) -> Vector:
    """Upper ends of all bins but the last; a repeated decile also ends the bin before its value."""
    deciles = np.quantile(train, np.arange(1, N_BINS) / N_BINS, method="inverted_cdf")
    values, counts = np.unique(deciles, return_counts=True)
    return np.union1d(values, np.nextafter(values[counts > 1], -np.inf))


def _shares(values: Vector, edges: Vector) -> Vector:
    bins = np.searchsorted(edges, values, side="left")
    return np.bincount(bins, minlength=len(edges) + 1) / len(values)


def _word(psi: float) -> str:
    return next((word for word, limit in DRIFT_LIMITS if psi < limit), "large")
