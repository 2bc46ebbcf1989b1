"""The configuration of the naive forecasts. No torch here."""

from typing import Literal

from pydantic import PositiveInt

from finscale.core.config import Record
from finscale.models.head_config import ForecastHead

__all__ = ["NaiveConfig"]


class NaiveConfig(Record):
    """The past repeated; no parameters.

    Parameters
    ----------
    season_bars : int
        Bars of one season: a forecast repeats the last of them. 1 is the last value, held.
    head : ForecastHead
        Horizon and channels.

    Notes
    -----
    Hyndman and Athanasopoulos 2021, "Forecasting: Principles and Practice", section 5.2.
    """

    family: Literal["naive"] = "naive"
    season_bars: PositiveInt = 1
    head: ForecastHead

    @property
    def reads_masks(self) -> bool:
        """Whether windows may hold padding."""
        return False
