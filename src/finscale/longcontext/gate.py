"""The answer of numbers to one question. No torch."""

from typing import Literal

from finscale.core.config import Record

__all__ = ["Gate", "Outcome"]

Outcome = Literal["pass", "fail", "not_measurable"]


class Gate(Record):
    """One question to the numbers, and their answer.

    Parameters
    ----------
    name : str
        Of the gate.
    mode : str
        Which it was asked of.
    outcome : str
        ``pass``, ``fail`` or ``not_measurable``.
    estimate, low, high : float or None
        What was measured, with its 95 % interval; None where nothing was.
    threshold : float or None
        Where the gate stands.
    n : int
        Sequences, pairs of them or points that were used.
    reason : str
        In words.
    """

    name: str
    mode: str
    outcome: Outcome
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    n: int = 0
    reason: str
