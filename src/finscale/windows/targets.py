"""Labels: what happened in the h bars after each origin, from raw prices only.

t origin row, h horizon in bars, H trained horizons, K target columns. A label never leaves its segment.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.windows.tasks import Task

__all__ = ["EWMA_DECAY", "future_is_known", "targets", "trailing_volatility"]

EWMA_DECAY = 0.94
"""Daily decay of RiskMetrics (1996), used at every timescale."""

_STANDSTILL = 1e-8


def targets(
    bars: pd.DataFrame,
    task: Task,
    *,
    touch: Literal["high", "close"],
    horizons: Sequence[int],
    segments: NDArray[np.int64],
    scale: NDArray[np.float64],
    columns: Sequence[str] = (),
) -> NDArray[np.float32]:
    """Return the target of each bar; NaN where its future, or its scale, is not known.

    ``direction`` asks whether close[t+h] > close[t]. A threshold asks, with ``touch="high"``, whether
    max(high[t+1..t+h]) >= close[t] (1 + rise), and with ``touch="close"`` whether close[t+h] is.
    ``regression`` is log(close[t+h] / close[t]) / scale[t], ``quantile`` the same at each horizon;
    ``classes`` is the code of each of ``columns`` at t+h; ``forecast`` has no target of its own.

    Parameters
    ----------
    bars : DataFrame
        Raw prices, or a series with coded categorical columns, (n_rows,).
    horizons : sequence of int
        The trained horizons; one, unless the task is ``quantile``.
    segments : array (n_rows,)
        See `finscale.features.segments.segment_ids`.
    scale : array (n_rows,)
        See `trailing_volatility`.
    columns : sequence of str
        K categorical columns, for ``classes``.

    Returns
    -------
    float32 array (n_rows,); (n_rows, H) for ``quantile``; (n_rows, K) for ``classes``; (n_rows, 0) for
    ``forecast``
    """
    if task.kind == "forecast":
        return np.empty((len(bars), 0), dtype=np.float32)
    if task.kind == "quantile":
        returns = [_scaled_return(bars, scale, horizon, segments) for horizon in horizons]
        return np.stack(returns, axis=1).astype(np.float32)
    (horizon,) = horizons
    if task.kind == "regression":
        return _scaled_return(bars, scale, horizon, segments).astype(np.float32)
    known = future_is_known(segments, horizon)
    if task.kind == "classes":
        later = bars[list(columns)].shift(-horizon).to_numpy(dtype=np.float32)
        return np.where(known[:, None], later, np.float32(np.nan))
    return np.where(known, _hit(bars, task, touch, horizon), np.nan).astype(np.float32)


def future_is_known(segments: NDArray[np.int64], horizon: int) -> NDArray[np.bool_]:
    """Return whether the row ``horizon`` later exists and belongs to the same segment: (n_rows,)."""
    known = np.zeros(len(segments), dtype=np.bool_)
    known[:-horizon] = segments[horizon:] == segments[:-horizon]
    return known


def trailing_volatility(bars: pd.DataFrame, segments: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the EWMA volatility of one-bar log returns of each bar, begun anew in each segment: (n_rows,).

    variance[t] = 0.94 variance[t-1] + 0.06 r[t]^2, begun at the first r^2 (RiskMetrics 1996). NaN in the
    first row of a segment, without a close, and where prices stood still until the volatility was
    under 1e-8, which is no unit to measure a return in.
    """
    if "close" not in bars:
        return np.full(len(bars), np.nan)
    squares = np.log(bars["close"]).diff().pow(2)
    begins = np.flatnonzero(np.diff(segments, prepend=-1))
    squares.iloc[begins] = np.nan
    parts = np.split(squares.to_numpy(), begins[1:])
    smooth = [pd.Series(part).ewm(alpha=1 - EWMA_DECAY, adjust=False).mean() for part in parts]
    volatility = np.sqrt(np.concatenate(smooth))
    return np.where(volatility > _STANDSTILL, volatility, np.nan)


def _hit(bars: pd.DataFrame, task: Task, touch: Literal["high", "close"], horizon: int) -> NDArray[np.bool_]:
    """Whether the answer is yes, where the future is known."""
    close = bars["close"]
    later = close.shift(-horizon)
    if task.rise is None:
        return (later > close).to_numpy()
    top = bars["high"].rolling(horizon).max().shift(-horizon) if touch == "high" else later
    return (top >= close * (1 + task.rise)).to_numpy()


def _scaled_return(
    bars: pd.DataFrame, scale: NDArray[np.float64], horizon: int, segments: NDArray[np.int64]
) -> NDArray[np.float64]:
    price = np.log(bars["close"])
    rise = (price.shift(-horizon) - price).to_numpy() / scale
    return np.where(future_is_known(segments, horizon), rise, np.nan)
