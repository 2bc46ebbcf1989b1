"""What is forecast: a task is parsed once from its name, ``direction`` or ``threshold_<x>pct``."""

import re

from finscale.core.config import Record
from finscale.core.errors import Fault, suggest

__all__ = ["Task", "parse_task"]

_THRESHOLD = re.compile(r"threshold_(\d+(?:\.\d+)?)pct")
_EXAMPLES = ("direction", "threshold_1pct", "threshold_2pct", "threshold_3pct", "threshold_5pct")


class Task(Record):
    """A binary question about the bars after an origin.

    Attributes
    ----------
    name : str
        As the user wrote it.
    rise : float
        Relative rise that must be reached; None asks only for the sign of the move.
    """

    name: str
    rise: float | None = None


def parse_task(name: str) -> Task:
    """Read a task by its name.

    Raises
    ------
    Fault
        For an unknown name, or a threshold that is not above zero.

    Examples
    --------
    >>> parse_task("threshold_2.5pct").rise
    0.025
    """
    if name == "direction":
        return Task(name=name)
    match = _THRESHOLD.fullmatch(name)
    if match is None:
        known = "direction, or threshold_<x>pct with any x above 0 (threshold_1pct, threshold_2.5pct)"
        raise Fault("data.task", f"be {known}", name, suggest(name, _EXAMPLES))
    if not 0 < float(match[1]) < 1000:
        raise Fault("data.task", "ask for a rise above 0 and under 1000 %", name, "try threshold_1pct")
    return Task(name=name, rise=float(match[1]) / 100)
