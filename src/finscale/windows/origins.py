"""What a forecast is known by: the trading day it counts to, the instant it was made, and its instrument.

Statistics cluster by ``date``; joins between forecasts of the same origin use all three.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.windows.data import WindowData

__all__ = ["ORIGIN", "origins_frame", "rows_frame"]

ORIGIN = ("date", "at", "instrument")


def origins_frame(data: WindowData, split: str) -> pd.DataFrame:
    """Return one row per origin of a split: date (trading day), at (stamp of its bar), instrument."""
    return rows_frame(data, data.origins[split])


def rows_frame(data: WindowData, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Return one row per origin among ``rows`` (n,); see `origins_frame`."""
    names = np.array(data.spec.instruments or ("",), dtype=object)
    return pd.DataFrame(
        {"date": data.sessions[rows], "at": data.dates[rows], "instrument": names[data.instruments[rows]]}
    )
