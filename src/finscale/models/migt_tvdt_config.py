"""The configuration of the MIGT-TVDT. No torch here."""

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.models.head_config import ForecastHead, HeadConfig, LogitsHead
from finscale.models.position_config import CalendarConfig, Time2VecConfig
from finscale.models.transformer_config import Dropout, head_faults

__all__ = ["MigtTvdtConfig"]

_HARMONICS = 16


class MigtTvdtConfig(Record):
    """Attention over time within every variable, then over the variables (gated blocks, GELU, biases).

    Parameters
    ----------
    d_model, n_layers, n_heads, d_ff : int
        Width (even), depth of the stage over time, heads (a divisor of d_model) and feed-forward width.
    dropout : float
        On the embedded bars and on both branches of every block; not on attention weights.
    time2vec : bool
        Whether frequencies and phases of the calendar are learned, from its harmonics on.
    session_bars : int
        Bars of the longest session, the period of the time of day; 1 where bars are no part of a session.
    head : HeadConfig
        What is predicted; only a forecast is put back on the scale of its window.

    Notes
    -----
    A bar's place is its calendar: the time of day by 16 harmonics of a session (as many as half its bars
    where that is less), weekday, day of the month and of the year; there are no other positions, so bars of
    equal calendar are told apart by their values alone. Padding (``Batch.mask``) counts for nothing.
    """

    family: Literal["migt_tvdt"] = "migt_tvdt"
    d_model: PositiveInt = 256
    n_layers: PositiveInt = 4
    n_heads: PositiveInt = 8
    d_ff: PositiveInt = 1024
    dropout: Dropout = 0.1
    time2vec: bool = False
    session_bars: PositiveInt = 288
    head: HeadConfig = LogitsHead()

    @model_validator(mode="after")
    def _shape_is_possible(self) -> Self:
        faults = head_faults(self.d_model, self.n_heads)
        if self.d_model % 2:
            rule, remedy = "be even: the head's hidden layer is half as wide", f"try {self.d_model + 1}"
            faults.append(Fault("d_model", rule, self.d_model, remedy))
        raise_faults(faults)
        return self

    @property
    def n_variable_layers(self) -> int:
        """Depth of the stage over variables: half of that over time, one at least."""
        return max(1, self.n_layers // 2)

    @property
    def positions(self) -> CalendarConfig:
        """The code of a bar's place; of bars without a session its time of day is constant."""
        session_bars = max(2, self.session_bars)
        kind = Time2VecConfig if self.time2vec else CalendarConfig
        return kind(session_bars=session_bars, harmonics=min(_HARMONICS, session_bars // 2))

    @property
    def reads_masks(self) -> bool:
        """Whether windows may hold padding."""
        return True

    @property
    def ties_columns(self) -> bool:
        """Whether a forecast needs to know which feature each of its channels is: it takes its scale."""
        return True

    def columns(self, n_features: int) -> tuple[int, ...] | None:
        """Return the features a forecast is tied to, None under another head."""
        return self.head.columns_of(n_features) if isinstance(self.head, ForecastHead) else None
