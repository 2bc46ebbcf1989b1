"""Scores of a point forecast.

y outcomes, f forecasts, both (n,) in the same units.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finscale.core.errors import Fault

__all__ = ["absolute_error_rows", "scores", "skill", "squared_error_rows"]

Vector = NDArray[np.float64]


def squared_error_rows(y: ArrayLike, f: ArrayLike) -> Vector:
    """Return (y - f)^2 of each row.

    Examples
    --------
    >>> squared_error_rows([1.0, 2.0], [0.0, 4.0]).tolist()
    [1.0, 4.0]
    """
    outcomes, forecasts = _checked(y, f)
    return np.square(outcomes - forecasts)


def absolute_error_rows(y: ArrayLike, f: ArrayLike) -> Vector:
    """Return |y - f| of each row."""
    outcomes, forecasts = _checked(y, f)
    return np.abs(outcomes - forecasts)


def skill(loss: float, baseline_loss: float) -> float:
    """Return 1 - loss / baseline loss: 1 is perfect, 0 no better; NaN for a baseline that never errs.

    Murphy (1988).

    Examples
    --------
    >>> skill(0.75, 1.0)
    0.25
    """
    if min(loss, baseline_loss) < 0:
        raise Fault("losses", "be at least 0 to have a skill", (loss, baseline_loss))
    return 1 - loss / baseline_loss if baseline_loss else float("nan")


def scores(y: ArrayLike, f: ArrayLike) -> dict[str, float]:
    """Return mean squared and absolute error, the mean error (forecast - outcome) and the correlation.

    ``correlation`` (Pearson) is NaN where outcomes or forecasts never change.
    """
    outcomes, forecasts = _checked(y, f)
    return {
        "squared_error": float(np.square(outcomes - forecasts).mean()),
        "absolute_error": float(np.abs(outcomes - forecasts).mean()),
        "bias": float((forecasts - outcomes).mean()),
        "correlation": _correlation(outcomes, forecasts),
        "n": float(len(outcomes)),
    }


def _correlation(a: Vector, b: Vector) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _checked(y: ArrayLike, f: ArrayLike) -> tuple[Vector, Vector]:
    outcomes, forecasts = np.asarray(y, dtype=np.float64), np.asarray(f, dtype=np.float64)
    if outcomes.ndim != 1 or outcomes.shape != forecasts.shape or outcomes.size == 0:
        shapes = f"shapes {outcomes.shape} and {forecasts.shape}"
        raise Fault("outcomes and forecasts", "be two non-empty vectors of equal length", shapes)
    for name, values in (("outcomes", outcomes), ("forecasts", forecasts)):
        if not np.isfinite(values).all():
            raise Fault(name, "be finite numbers", f"{int((~np.isfinite(values)).sum())} that are not")
    return outcomes, forecasts
