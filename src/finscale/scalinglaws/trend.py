"""The primary test: does the response rise with log10 N? One line, K budgets, K - 2 degrees of freedom.

The response is an *excess loss*, baseline - model: positive is better than the base rate, so a loss that
**falls** with size is a response that **rises**.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["SlopeTest", "slope_test"]

Floats = NDArray[np.float64]
_TIE = 1e-12


@dataclass(frozen=True)
class SlopeTest:
    """Least-squares slopes and their two one-sided p-values; arrays over the leading axes of the response.

    Attributes
    ----------
    slope, slope_se : ndarray
        Nats per decade of N.
    intercept : ndarray
        Response at ``centre``, the mean of log10 N.
    sigma : ndarray
        Residual SD about the line: the SD of one cell.
    p_rise, p_fall : ndarray
        One-sided p-values of a rising and of a falling response.
    df : int
        K - 2.
    """

    slope: Floats
    slope_se: Floats
    intercept: Floats
    sigma: Floats
    p_rise: Floats
    p_fall: Floats
    df: int
    centre: float

    def interval(self, *, level: float) -> tuple[Floats, Floats]:
        """Return the two-sided t interval of the slope."""
        reach = stats.t.ppf((1 + level) / 2, self.df) * self.slope_se
        return self.slope - reach, self.slope + reach


def slope_test(log10_n: ArrayLike, response: ArrayLike) -> SlopeTest:
    """Test the slope of ``response`` over ``log10_n``.

    Parameters
    ----------
    log10_n : array_like, shape (K,)
        K >= 3, not all equal.
    response : array_like, shape (..., K)
        One value per budget; values equal to within rounding count as exactly tied.
    """
    x, y = np.asarray(log10_n, dtype=np.float64), np.asarray(response, dtype=np.float64)
    centred, mean = x - x.mean(), y.mean(axis=-1, keepdims=True)
    deviation = np.where(_tied(y)[..., None], 0.0, y - mean)
    sxx, df = float((centred**2).sum()), len(x) - 2
    slope = deviation @ centred / sxx
    sigma = np.sqrt(((deviation - slope[..., None] * centred) ** 2).sum(axis=-1) / df)
    se = sigma / np.sqrt(sxx)
    t = _ratio(slope, se)
    p_rise, p_fall = stats.t.sf(t, df), stats.t.cdf(t, df)
    return SlopeTest(slope, se, mean[..., 0], sigma, p_rise, p_fall, df, float(x.mean()))


def _tied(y: Floats) -> NDArray[np.bool_]:
    return np.ptp(y, axis=-1) <= _TIE * np.abs(y).max(axis=-1)


def _ratio(slope: Floats, se: Floats) -> Floats:
    """Return slope / se; infinite for an exact line, zero for exact ties."""
    exact = np.select([slope > 0, slope < 0], [np.inf, -np.inf], 0.0)
    return np.divide(slope, se, out=exact, where=se > 0)
