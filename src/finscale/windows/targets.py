"""Labels: what happened in the h bars after each origin, from raw prices only.

t origin row, h horizon in bars.
"""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.windows.tasks import Task

__all__ = ["targets"]


def targets(
    bars: pd.DataFrame, task: Task, *, touch: Literal["high", "close"], horizon: int
) -> NDArray[np.float32]:
    """Return 1, 0, or NaN (the last ``horizon`` rows, whose future is not over) for each bar.

    ``direction`` asks whether close[t+h] > close[t]. A threshold asks, with ``touch="high"``, whether
    max(high[t+1..t+h]) >= close[t] (1 + rise), and with ``touch="close"`` whether close[t+h] is.
    """
    close = bars["close"]
    later = close.shift(-horizon)
    if task.rise is None:
        hit = later > close
    else:
        top = bars["high"].rolling(horizon).max().shift(-horizon) if touch == "high" else later
        hit = top >= close * (1 + task.rise)
    return np.where(later.isna(), np.nan, hit).astype(np.float32)
