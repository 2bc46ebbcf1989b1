"""Where the gates of a verdict stand. No torch."""

from typing import Annotated

from pydantic import Field, PositiveInt

from finscale.core.config import Record

__all__ = ["GateConfig"]

Share = Annotated[float, Field(ge=0, le=1)]


class GateConfig(Record):
    """Thresholds, in shares of right answers, and what counts as short, long and deep.

    Parameters
    ----------
    baseline : str
        The mode that all others are compared with.
    short_to, long_from : int
        Lengths up to which a regression is looked for, and from which a gain is.
    deep_to : float
        Depths up to this one are deep: the needle stands far back.
    max_regression : float
        Accuracy that a mode may lose at short lengths, and on ``latest``.
    min_gain : float
        Accuracy that a mode must gain on deep needles at long lengths.
    max_growth : float
        By which memory may grow from ``memory_from`` to the longest stream.
    memory_from : int
        Symbols of the shortest stream that counts.
    max_difference : float
        Two modes are told apart, or are the same, within this accuracy.
    """

    baseline: str = "rope"
    short_to: PositiveInt = 32_768
    long_from: PositiveInt = 262_144
    deep_to: Share = 0.5
    max_regression: Share = 0.01
    min_gain: Share = 0.30
    max_growth: Share = 0.05
    memory_from: PositiveInt = 65_536
    max_difference: Share = 0.10
