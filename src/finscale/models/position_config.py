"""How a model says where a token stands: one frozen record per kind, joined in a tagged union. No torch here.

Kinds that *add* a code to the tokens: ``learned``, ``sinusoidal``, ``pi_spiral`` (additive), ``calendar``,
``time2vec``. Kinds that *turn* queries and keys: the ``rope`` family, ``pi_spiral`` (rotary), ``hybrid``.
``alibi`` penalises distance in the scores; ``none`` leaves order to the causal mask.
d d_model, S slots of a learned table.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, suggest

__all__ = [
    "CALENDAR_FIELDS",
    "POSITION_CONFIGS",
    "AlibiConfig",
    "CalendarConfig",
    "Constant",
    "HybridConfig",
    "LearnedConfig",
    "NoPositionsConfig",
    "PiSpiralConfig",
    "PositionConfig",
    "RopeConfig",
    "RopeDynamicConfig",
    "RopeLinearConfig",
    "RopeNtkConfig",
    "SinusoidalConfig",
    "Time2VecConfig",
    "YarnConfig",
    "parse_position_config",
]

CALENDAR_FIELDS = ("bar_of_session", "day_of_week", "day_of_month", "day_of_year")
"""Columns of ``Batch.calendar``, in this order: 0 .. session_bars - 1, 0 (Monday) .. 6, 1 .. 31, 1 .. 366."""

Constant = Literal["pi", "e", "sqrt2", "phi", "prng"]
Constants = Literal["single", "per_pair"]
Base = Annotated[float, Field(gt=1)]
Factor = Annotated[float, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Harmonics = Annotated[int, Field(ge=1)]


class NoPositionsConfig(Record):
    """No positions: order is known through the causal mask alone."""

    kind: Literal["none"] = "none"


class LearnedConfig(Record):
    """One free vector per slot, added to its token (Gehring et al. 2017)."""

    kind: Literal["learned"] = "learned"


class SinusoidalConfig(Record):
    """Sines and cosines of geometric frequencies, added to the token (Vaswani et al. 2017, section 3.5)."""

    kind: Literal["sinusoidal"] = "sinusoidal"
    base: Base = 10_000.0


class RopeConfig(Record):
    """Rotary positions: pair i turns by ``base ** (-2 i / d_head)`` radians a step (Su et al. 2021)."""

    kind: Literal["rope"] = "rope"
    base: Base = 10_000.0


class RopeLinearConfig(Record):
    """Rotary positions with every frequency divided by ``factor`` (Chen et al. 2023)."""

    kind: Literal["rope_linear"] = "rope_linear"
    base: Base = 10_000.0
    factor: Factor


class RopeNtkConfig(Record):
    """Rotary positions of base ``base * factor ** (d_head / (d_head - 2))``: static NTK-aware scaling."""

    kind: Literal["rope_ntk"] = "rope_ntk"
    base: Base = 10_000.0
    factor: Factor


class RopeDynamicConfig(Record):
    """NTK-aware scaling that starts when a call is longer than ``original_length``.

    Notes
    -----
    With L the last position + 1 of a call, the base grows by ``factor L / original_length - (factor - 1)`` to
    the power d_head / (d_head - 2). The length of the *call* enters, so chunks do not equal the whole:
    streaming needs a static kind.
    """

    kind: Literal["rope_dynamic"] = "rope_dynamic"
    base: Base = 10_000.0
    factor: Factor
    original_length: PositiveInt


class YarnConfig(Record):
    """NTK by parts with an attention temperature (Peng et al. 2023, YaRN).

    Notes
    -----
    Pairs that turn more than 32 times within ``original_length`` keep their frequency, those that turn less
    than once have it divided by ``factor``, with a ramp between; cosines and sines are multiplied by
    ``0.1 ln(factor) + 1``.
    """

    kind: Literal["yarn"] = "yarn"
    base: Base = 10_000.0
    factor: Factor
    original_length: PositiveInt


class AlibiConfig(Record):
    """Scores lose ``slope_h`` per step of distance (Press et al. 2022)."""

    kind: Literal["alibi"] = "alibi"


class PiSpiralConfig(Record):
    """Phases of an irrational number of turns a step, ``2 pi frac(n c)``, exact at every n.

    Parameters
    ----------
    form : str
        ``additive`` adds the code to the token; ``rotary`` turns queries and keys.
    constant : str
        c, or ``prng``: a hash of n in place of frac(n c), the control that holds no order at all.
    constants : str
        ``single`` phase for every pair (a code of rank 2), or ``per_pair``: c_i = c sqrt(prime_i), full rank.
    rotated_fraction : float
        Share of the pairs that turn, one half by default; ``rotary`` only. Under 1 some pairs can be matched
        at any distance.
    """

    kind: Literal["pi_spiral"] = "pi_spiral"
    form: Literal["additive", "rotary"] = "rotary"
    constant: Constant = "pi"
    constants: Constants = "single"
    rotated_fraction: Fraction | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_rotated_fraction(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("form", "rotary") != "rotary":
            return values
        given = values.get("rotated_fraction")
        return {**values, "rotated_fraction": 0.5 if given is None else given}

    @model_validator(mode="after")
    def _additive_turns_nothing(self) -> Self:
        if self.form == "additive" and self.rotated_fraction is not None:
            got, remedy = self.rotated_fraction, "remove it"
            raise Fault("rotated_fraction", "be left out unless form=rotary", got, remedy)
        return self


class HybridConfig(Record):
    """Rotary positions up to K, blended into the rotary pi spiral beyond.

    Parameters
    ----------
    base : float
        Of the rotary part.
    constant, constants, rotated_fraction
        Of the spiral, as in `PiSpiralConfig`.
    K, width : int
        Where the blend begins and how far it reaches.
    gate : str
        Weight w of the spiral. ``absolute_hard``: 0 for n <= K, then a ramp to 1 at K + width.
        ``absolute_sigmoid``: sigmoid((n - K) / width), which leaks below K. Both are functions of the
        position, so scores stop depending on distance alone. ``distance``: the hard gate of |i - j| on the
        scores, which do depend on it alone; costs an explicit bias.
    """

    kind: Literal["hybrid"] = "hybrid"
    base: Base = 10_000.0
    constant: Constant = "pi"
    constants: Constants = "single"
    rotated_fraction: Fraction = 0.5
    K: PositiveInt = 16_000
    width: PositiveInt = 1_000
    gate: Literal["absolute_sigmoid", "absolute_hard", "distance"] = "absolute_hard"


class CalendarConfig(Record):
    """Where a bar stands in its session, week, month and year, mapped linearly and added to the token.

    Parameters
    ----------
    session_bars : int
        Bars of one session, the period of the time of day.
    harmonics, month_harmonics, year_harmonics : int
        Sine and cosine pairs of the time of day, the day of the month (period 31) and of the year (366). The
        first is at most half of ``session_bars``: beyond, a harmonic is the mirror of a lower one.
    d_weekday : int
        Width of the learned vector of each day of the week.
    """

    kind: Literal["calendar"] = "calendar"
    session_bars: Annotated[int, Field(ge=2)]
    harmonics: Harmonics = 16
    month_harmonics: Annotated[int, Field(ge=1, le=15)] = 8
    year_harmonics: Annotated[int, Field(ge=1, le=183)] = 16
    d_weekday: PositiveInt = 16

    @model_validator(mode="after")
    def _harmonics_are_distinct(self) -> Self:
        if self.harmonics > self.session_bars // 2:
            got = f"harmonics={self.harmonics}, session_bars={self.session_bars}"
            remedy = f"try harmonics={self.session_bars // 2}"
            raise Fault("harmonics", "be at most half of session_bars", got, remedy)
        return self

    @property
    def waves(self) -> tuple[tuple[int, float, int], ...]:
        """Column of the calendar, period and harmonics of each cyclic field."""
        return (
            (CALENDAR_FIELDS.index("bar_of_session"), float(self.session_bars), self.harmonics),
            (CALENDAR_FIELDS.index("day_of_month"), 31.0, self.month_harmonics),
            (CALENDAR_FIELDS.index("day_of_year"), 366.0, self.year_harmonics),
        )

    @property
    def d_code(self) -> int:
        """Width of the code before the linear map; 96 by default."""
        return 2 * sum(harmonics for *_, harmonics in self.waves) + self.d_weekday


class Time2VecConfig(CalendarConfig):
    """The calendar's code with frequencies and phases learned from its harmonics on (Kazemi et al. 2019)."""

    kind: Literal["time2vec"] = "time2vec"  # type: ignore[assignment]


AnyPositionConfig = (
    NoPositionsConfig
    | LearnedConfig
    | SinusoidalConfig
    | RopeConfig
    | RopeLinearConfig
    | RopeNtkConfig
    | RopeDynamicConfig
    | YarnConfig
    | AlibiConfig
    | PiSpiralConfig
    | HybridConfig
    | CalendarConfig
    | Time2VecConfig
)

PositionConfig = Annotated[AnyPositionConfig, Field(discriminator="kind")]

POSITION_CONFIGS: dict[str, type[AnyPositionConfig]] = {
    record.model_fields["kind"].default: record
    for record in (
        NoPositionsConfig,
        LearnedConfig,
        SinusoidalConfig,
        RopeConfig,
        RopeLinearConfig,
        RopeNtkConfig,
        RopeDynamicConfig,
        YarnConfig,
        AlibiConfig,
        PiSpiralConfig,
        HybridConfig,
        CalendarConfig,
        Time2VecConfig,
    )
}


def parse_position_config(values: Mapping[str, Any], *, subject: str = "positions") -> AnyPositionConfig:
    """Read a position config of any kind; every fault is raised at once.

    Examples
    --------
    >>> parse_position_config({"kind": "yarn", "factor": 4, "original_length": 512}).base
    10000.0
    """
    kind = values.get("kind")
    if kind not in POSITION_CONFIGS:
        raise Fault(f"{subject}.kind", "name a known encoding", kind, suggest(str(kind), POSITION_CONFIGS))
    return POSITION_CONFIGS[kind].read(values, subject=subject)
