"""Where a bar stands on the clock and the calendar, added to its token.

B batch, T bars, D d_model, W waves (a sine and a cosine per harmonic), V values of one calendar field, C
width of the code: the waves of bar_of_session, day_of_month and day_of_year, then the learned vector of the
weekday.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from finscale.core.errors import Fault
from finscale.models.layers.positions.contract import Positions, exact_device
from finscale.models.position_config import CALENDAR_FIELDS, CalendarConfig, Time2VecConfig

__all__ = ["CalendarPositions", "Time2VecPositions"]

_WEEKDAY = CALENDAR_FIELDS.index("day_of_week")


class CalendarPositions(Positions):
    """Integer harmonics of session, month and year, a vector per weekday, one linear map.

    Parameters
    ----------
    config : CalendarConfig
        Periods, harmonics and widths.
    d_model : int
        Width of a token.

    Notes
    -----
    A field has few values, so its waves are tabulated and looked up; a value beyond the period wraps around.
    """

    def __init__(self, config: CalendarConfig, d_model: int) -> None:
        super().__init__()
        self.config = config
        self.weekday = nn.Embedding(7, config.d_weekday)
        self.linear = nn.Linear(config.d_code, d_model)

    def add(
        self,
        x_BTD: Float[Tensor, "B T D"],
        positions: Int[Tensor, " T"] | None = None,
        calendar: Int[Tensor, "B T fields"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Add the mapped code of each bar; positions do not enter."""
        return x_BTD + self.mapped(calendar, like=x_BTD)

    def mapped(
        self, calendar: Int[Tensor, "B T fields"] | None, *, like: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "B T D"]:
        """Return what `add` adds, of the type of ``like``.

        Raises
        ------
        Fault
            Without a calendar of the four `CALENDAR_FIELDS`.
        """
        if calendar is None or calendar.shape[-1] != len(CALENDAR_FIELDS):
            got = None if calendar is None else tuple(calendar.shape)
            remedy = "its fields are " + ", ".join(CALENDAR_FIELDS)
            raise Fault("batch.calendar", f"have shape (B, T, {len(CALENDAR_FIELDS)})", got, remedy)
        return self.linear(self.code(calendar).to(like))

    def code(self, calendar: Int[Tensor, "B T fields"]) -> Float[Tensor, "B T C"]:
        """Return the code before the linear map."""
        like = self.weekday.weight
        found = [
            functional.embedding(calendar[..., column] % int(period), table.to(like))
            for (column, period, _), table in zip(self.config.waves, self._tables(), strict=True)
        ]
        return torch.cat((*found, self.weekday(calendar[..., _WEEKDAY])), dim=-1)

    def _tables(self) -> list[Float[Tensor, "V W"]]:
        """Return one table per cyclic field, float64."""
        n_waves = self.config.d_code - self.config.d_weekday
        where = exact_device(self.weekday.weight)
        return self._waves(torch.zeros(2, n_waves, dtype=torch.float64, device=where))

    def _waves(self, shifts: Float[Tensor, "two W"]) -> list[Tensor]:
        widths = [2 * harmonics for *_, harmonics in self.config.waves]
        pieces = shifts.split(widths, dim=1)
        fields = zip(self.config.waves, pieces, strict=True)
        return [_wave_table(int(period), harmonics, shift) for (_, period, harmonics), shift in fields]


class Time2VecPositions(CalendarPositions):
    """The same code with a learned frequency and phase per wave (Kazemi et al. 2019).

    Notes
    -----
    What is learned are *shifts* from the harmonic ``2 pi k / period`` and from the phases of sine and cosine,
    in units of the fundamental and in radians. Shifts of zero are the calendar's code, so a model may start
    them at zero or near it.
    """

    def __init__(self, config: Time2VecConfig, d_model: int) -> None:
        super().__init__(config, d_model)
        n_waves = config.d_code - config.d_weekday
        self.rate_shift = nn.Parameter(torch.zeros(n_waves))
        self.phase_shift = nn.Parameter(torch.zeros(n_waves))

    def _tables(self) -> list[Float[Tensor, "V W"]]:
        shifts = torch.stack((self.rate_shift, self.phase_shift))
        return self._waves(
            shifts.to(shifts.device if shifts.is_meta else exact_device(shifts), torch.float64)
        )


def _wave_table(n_values: int, n_harmonics: int, shift: Float[Tensor, "two W"]) -> Float[Tensor, "V W"]:
    """Return sin(2 pi (k + rate) v / V + phase) for every value v; sines, then cosines."""
    harmonics_W = torch.arange(1, n_harmonics + 1, device=shift.device).repeat(2)
    quarter_W = (math.pi / 2) * shift.new_tensor([0.0, 1.0]).repeat_interleave(n_harmonics)
    turns_V = torch.arange(n_values, dtype=torch.float64, device=shift.device) / n_values
    return (2 * math.pi * torch.outer(turns_V, harmonics_W + shift[0]) + quarter_W + shift[1]).sin()
