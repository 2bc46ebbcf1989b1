"""The configuration of DLinear. No torch here."""

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.models.head_config import ForecastHead, HeadConfig, LogitsHead

__all__ = ["DLinearConfig"]


class DLinearConfig(Record):
    """Two linear maps of the context, one of its moving average and one of what remains.

    Parameters
    ----------
    average_bars : int
        Bars of the centred moving average, odd; the published 25.
    individual : bool
        Whether every channel of a forecast has maps of its own.
    head : HeadConfig
        A forecast maps every channel's own past; the other heads read all T x F values.

    Notes
    -----
    Zeng et al. 2023, "Are Transformers Effective for Time Series Forecasting?".
    """

    family: Literal["dlinear"] = "dlinear"
    average_bars: PositiveInt = 25
    individual: bool = False
    head: HeadConfig = LogitsHead()

    @model_validator(mode="after")
    def _options_are_read(self) -> Self:
        faults = []
        if self.average_bars % 2 == 0:
            faults.append(Fault("average_bars", "be odd, to be centred on a bar", self.average_bars))
        if self.individual and not isinstance(self.head, ForecastHead):
            got = f"individual=true, head.kind={self.head.kind}"
            faults.append(Fault("individual", "be left out unless head.kind=forecast", got, "remove it"))
        raise_faults(faults)
        return self

    @property
    def reads_masks(self) -> bool:
        """Whether windows may hold padding: every bar has weights of its own."""
        return False
