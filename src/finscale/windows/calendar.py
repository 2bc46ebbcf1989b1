"""Where each row stands on the clock and the calendar, for models that read it. No torch.

n_rows feature rows.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.models.position_config import CALENDAR_FIELDS
from finscale.windows.data import WindowData

__all__ = ["calendar_fields"]


def calendar_fields(data: WindowData) -> NDArray[np.int32]:
    """Return `CALENDAR_FIELDS` of every row: (n_rows, 4).

    Days are those of the session, the trading day that a bar belongs to. Bars that are no part of a session
    (daily and longer) all have slot 0.
    """
    days = pd.DatetimeIndex(data.sessions)
    columns = (data.slots, days.day_of_week, days.day, days.day_of_year)
    assert len(columns) == len(CALENDAR_FIELDS)
    return np.column_stack(columns).astype(np.int32)
