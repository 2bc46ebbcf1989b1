"""What is forecast: a task is parsed once from its name.

``direction`` and ``threshold_<x>pct`` are yes-or-no questions; ``regression`` asks for one scaled return,
``quantile`` for the distribution of scaled returns, ``forecast`` for the next rows of the table itself,
``classes`` for the labels of its categorical columns in one later row.
"""

import re
from typing import Literal

from finscale.core.config import Record
from finscale.core.errors import Fault, suggest

__all__ = ["Task", "TaskKind", "parse_task"]

TaskKind = Literal["binary", "regression", "quantile", "forecast", "classes"]

_THRESHOLD = re.compile(r"threshold_(\d+(?:\.\d+)?)pct")
_PLAIN: dict[str, TaskKind] = {
    "direction": "binary",
    "regression": "regression",
    "quantile": "quantile",
    "forecast": "forecast",
    "classes": "classes",
}
_EXAMPLES = (*_PLAIN, "threshold_1pct", "threshold_2pct", "threshold_3pct", "threshold_5pct")


class Task(Record):
    """A question about the bars after an origin.

    Attributes
    ----------
    name : str
        As the user wrote it.
    kind : str
        What an answer is: a probability, a number, quantiles, rows, or labels.
    rise : float
        Relative rise that must be reached by a threshold task; None for every other.
    """

    name: str
    kind: TaskKind = "binary"
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
    >>> parse_task("regression").kind
    'regression'
    """
    if name in _PLAIN:
        return Task(name=name, kind=_PLAIN[name])
    match = _THRESHOLD.fullmatch(name)
    if match is None:
        known = (
            "direction, regression, quantile, forecast, classes, "
            "or threshold_<x>pct with any x above 0 (threshold_1pct, threshold_2.5pct)"
        )
        raise Fault("data.task", f"be {known}", name, suggest(name, _EXAMPLES))
    if not 0 < float(match[1]) < 1000:
        raise Fault("data.task", "ask for a rise above 0 and under 1000 %", name, "try threshold_1pct")
    return Task(name=name, rise=float(match[1]) / 100)
