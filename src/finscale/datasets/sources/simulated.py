"""Simulated bars as a source: the same conf gives the same bars on every machine."""

from typing import Literal

import pandas as pd
from pydantic import Field

from finscale.core.seeding import generator
from finscale.datasets.sources.source import Source, Told
from finscale.features.simulate import DailyProcess, IntradayProcess, simulate_daily, simulate_intraday

__all__ = ["SimulatedDailySource", "SimulatedIntradaySource"]


class _SimulatedSource(Source):
    """What both processes tell the data card."""

    kind: Literal["simulated"] = "simulated"
    seed: int = Field(default=0, ge=0)

    def _card(self, process: str, calendar: str) -> Told:
        return {
            "source": self.kind,
            "symbol": f"SIMULATED {process} seed {self.seed}",
            "adjustments": "as made",
            "simulated": True,
            "calendar": calendar,
        }


class SimulatedDailySource(_SimulatedSource, DailyProcess):
    """Daily bars with GJR-GARCH volatility and t shocks."""

    def load(self) -> pd.DataFrame:
        """Return the bars that the seed gives."""
        bars = simulate_daily(self, generator(self.seed, self.process)).bars
        bars.attrs = self._card(self.process, self.calendar)
        return bars


class SimulatedIntradaySource(_SimulatedSource, IntradayProcess):
    """Five-minute bars with the same volatility, and a day's rhythm."""

    def load(self) -> pd.DataFrame:
        """Return the bars that the seed gives."""
        bars = simulate_intraday(self, generator(self.seed, self.process)).bars
        sessions = self.sessions.model_dump(mode="json")
        bars.attrs = {**self._card(self.process, self.calendar), "sessions": sessions}
        return bars
