"""What the catalogue says of a feature."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from finscale.features.indicators import Indicator
from finscale.features.intraday import session_numbers
from finscale.features.weeks import week_numbers

__all__ = ["FeatureSpec"]

_PERIODS = {"session": session_numbers, "week": week_numbers}


@dataclass(frozen=True)
class FeatureSpec:
    """One feature.

    Attributes
    ----------
    name : str
    function : callable
        From the bars of one segment to a float64 vector (n_rows,) that at row t reads rows 0..t only.
    lookback : int
        Steps of ``clock`` before the first defined value (TA-Lib's convention: 14 for rsi_14).
    family, source : str
        What it measures (``proxy``: stands for what bars do not show); where it comes from.
    reads : tuple of str
        Columns of the bars it needs.
    clock : str
        ``bar``; ``session`` for what compares with earlier sessions; ``week`` for indicators of completed
        weeks.
    bounds : tuple of float, optional
        Lowest and highest value that its definition allows, where it has both.
    """

    name: str
    function: Indicator
    lookback: int
    family: str
    source: str
    reads: tuple[str, ...] = ("close",)
    clock: Literal["bar", "session", "week"] = "bar"
    bounds: tuple[float, float] | None = None

    def warm_up(self, bars: pd.DataFrame) -> int:
        """Return how many bars come before the first defined value.

        At most all of them where the lookback counts sessions or weeks; more where it counts bars. Bars
        before the first VIX are counted too.
        """
        if self.clock == "bar":
            return self.lookback + (_n_before_vix(bars) if "vix" in self.reads else 0)
        periods = _PERIODS[self.clock](bars)
        n_periods = self.lookback + (self.clock == "week")  # a week is known when the next one begins
        return int(np.searchsorted(periods, n_periods))


def _n_before_vix(bars: pd.DataFrame) -> int:
    known = bars["vix"].notna().to_numpy()
    return int(known.argmax()) if known.any() else len(bars)
