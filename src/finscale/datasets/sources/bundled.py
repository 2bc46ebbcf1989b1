"""Real series that are bundled in the PyPI package arch: no download, the same on every machine."""

import importlib
from typing import Literal

import pandas as pd

from finscale.datasets.sources.source import Source
from finscale.features.bars import BAR_COLUMNS

__all__ = ["ArchSource"]

_NOTES = {
    "sp500": "before 2008 the open often equals the previous close: "
    "features of the opening gap are artefacts",
    "vix": "closing values only, from 2014-01-03",
}


class ArchSource(Source):
    """An index of the package arch.

    ``sp500`` and ``nasdaq`` are daily bars 1999-01-04 to 2018-12-31. ``vix`` is a series of closes,
    2014-01-03 to 2019-01-03, to be joined to bars.
    """

    kind: Literal["arch"] = "arch"
    symbol: Literal["sp500", "nasdaq", "vix"]

    def load(self) -> pd.DataFrame:
        """Return the bars, or the closes of the VIX on the days that have one."""
        found: pd.DataFrame = importlib.import_module(f"arch.data.{self.symbol}").load()
        if self.symbol == "vix":
            bars = found.rename(columns={"vix": "close"}).dropna()
        else:
            bars = found.rename(columns=str.lower)[list(BAR_COLUMNS)]
        bars.index = pd.DatetimeIndex(bars.index, name="session")
        bars.attrs = {
            "source": self.kind,
            "symbol": self.symbol,
            "adjustments": "unadjusted (an index)",
            "notes": [_NOTES[self.symbol]] if self.symbol in _NOTES else [],
            "calendar": "XNYS",
        }
        return bars
