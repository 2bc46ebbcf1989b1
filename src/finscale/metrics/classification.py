"""Scores of a probability forecast of a binary outcome.

y outcomes in {0, 1}, p forecast probabilities, both (n,).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from finscale.core.errors import Fault

__all__ = ["PROBABILITY_FLOOR", "auc", "brier", "ece", "log_loss", "log_loss_rows", "scores"]

PROBABILITY_FLOOR = 1e-7
"""Forecasts are kept this far from 0 and 1, so that one sure mistake costs 16 nats and not infinity."""

Vector = NDArray[np.float64]


def log_loss_rows(y: ArrayLike, p: ArrayLike) -> Vector:
    """Return the log loss of each row, in nats.

    Examples
    --------
    >>> log_loss_rows([1, 0], [0.5, 0.5]).round(4).tolist()
    [0.6931, 0.6931]
    """
    outcomes, forecasts = _checked(y, p)
    clipped = np.clip(forecasts, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return -np.where(outcomes == 1, np.log(clipped), np.log1p(-clipped))


def log_loss(y: ArrayLike, p: ArrayLike) -> float:
    """Return the mean log loss, in nats."""
    return float(log_loss_rows(y, p).mean())


def brier(y: ArrayLike, p: ArrayLike) -> float:
    """Return the mean squared error of the probabilities (Brier 1950)."""
    outcomes, forecasts = _checked(y, p)
    return float(np.square(outcomes - forecasts).mean())


def auc(y: ArrayLike, p: ArrayLike) -> float:
    """Return the area under the ROC curve, ties counted half; NaN when only one class occurs.

    The Mann-Whitney form of Hanley and McNeil (1982).
    """
    outcomes, forecasts = _checked(y, p)
    n_positive = int(outcomes.sum())
    n_negative = len(outcomes) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    rank_sum = rankdata(forecasts)[outcomes == 1].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def ece(y: ArrayLike, p: ArrayLike, *, n_bins: int = 15) -> float:
    """Return the expected calibration error over bins of about equal mass.

    Guo et al. (2017), with quantile bins in place of equal widths. Equal forecasts always share a
    bin, so a constant forecast has one bin and the error of its mean.
    """
    outcomes, forecasts = _checked(y, p)
    inner_edges = np.quantile(forecasts, np.linspace(0, 1, n_bins + 1)[1:-1])
    bins = np.searchsorted(inner_edges, forecasts, side="left")
    gaps = np.bincount(bins, weights=outcomes - forecasts, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(outcomes))


def scores(y: ArrayLike, p: ArrayLike) -> dict[str, float]:
    """Return every score of this module, with the number of rows and the share of positives."""
    outcomes, _ = _checked(y, p)
    return {
        "log_loss": log_loss(y, p),
        "brier": brier(y, p),
        "auc": auc(y, p),
        "ece": ece(y, p),
        "positive_rate": float(outcomes.mean()),
        "n": float(len(outcomes)),
    }


def _checked(y: ArrayLike, p: ArrayLike) -> tuple[Vector, Vector]:
    outcomes, forecasts = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    if outcomes.ndim != 1 or outcomes.shape != forecasts.shape or outcomes.size == 0:
        shapes = f"shapes {outcomes.shape} and {forecasts.shape}"
        raise Fault("outcomes and forecasts", "be two non-empty vectors of equal length", shapes)
    if not np.isin(outcomes, (0.0, 1.0)).all():
        raise Fault("outcomes", "be 0 or 1", np.unique(outcomes)[:5].tolist())
    if not ((forecasts >= 0) & (forecasts <= 1)).all():
        worst = forecasts[~((forecasts >= 0) & (forecasts <= 1))][:3].tolist()
        raise Fault("forecast probabilities", "lie between 0 and 1", worst)
    return outcomes, forecasts
