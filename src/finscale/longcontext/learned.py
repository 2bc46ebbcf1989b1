"""Whether a mode has learned a task at all: without that, nothing about its positions follows from it.

S slots of a sequence, A active keys of a sample.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.decoder_config import SymbolConfig
from finscale.longcontext.rows import pool

__all__ = ["Attempt", "Chances", "attempts", "chances_of", "learned", "shortest", "unlearned"]

Chances = Mapping[str, float]
"""What guessing scores, by task; a task that is not named cannot be guessed."""


class Attempt(NamedTuple):
    """What a mode scores in one task, with its Wilson interval, beside what guessing scores."""

    task: str
    acc: float
    low: float
    high: float
    n: int
    chance: float

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval lies above chance."""
        return self.low > self.chance

    def __str__(self) -> str:
        return f"{self.task} {self.acc:.3f} [{self.low:.3f}, {self.high:.3f}], chance {self.chance:.3f}"


def chances_of(config: LongContextConfig) -> dict[str, float]:
    """Return what guessing scores in every task of a block; questions in words cannot be guessed.

    Of ``needle`` and ``far`` any value of the sequence, of ``latest`` any value of the queried key, of
    ``overwrite`` any value that was written.
    """
    if config.symbols is None:
        return {}
    symbols, shortest = config.symbols, min(config.evaluation.lengths)
    any_value = 1 / symbols.n_active
    return {
        "needle": any_value,
        "latest": 1 / symbols.n_overwrites,
        "far": any_value,
        "dense": _dense_chance(symbols, n_slots=shortest // 2),
        "overwrite": 1 / sum(symbols.overwrite_counts),
    }


def _dense_chance(symbols: SymbolConfig, *, n_slots: int) -> float:
    """Return the chance of naming any value seen so far, which is higher in a shorter sequence.

    After t draws A (1 - (1 - 1/A)^t) keys have been seen. The next slot repeats one of them, and is scored,
    with that share of A; the guess is right with one over their number.
    """
    n_active = symbols.n_active
    seen = [n_active * (1 - (1 - 1 / n_active) ** t) for t in range(1, n_slots)]
    return len(seen) / sum(seen)


def shortest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return of every mode and task the rows of the shortest length that was asked."""
    return rows[rows["length"] == rows.groupby(["mode", "task"])["length"].transform("min")]


def attempts(rows: pd.DataFrame, mode: str, chances: Chances) -> list[Attempt]:
    """Return what a mode scores in every task of the rows."""
    own = rows[rows["mode"] == mode]
    pooled = pool(own, ["task"]).to_dict("records") if len(own) else []
    return [_attempt(row, chances) for row in pooled]


def _attempt(row: Mapping[Any, Any], chances: Chances) -> Attempt:
    return Attempt(**row, chance=chances.get(row["task"], 0.0))


def learned(rows: pd.DataFrame, mode: str, chances: Chances) -> list[str]:
    """Return the tasks of the rows in which a mode is above chance."""
    return [attempt.task for attempt in attempts(rows, mode, chances) if attempt.above_chance]


def unlearned(rows: pd.DataFrame, modes: Iterable[str], chances: Chances) -> list[str]:
    """Return what is to be said of each mode that was asked, and is above chance in no task of the rows."""
    tried = {mode: attempts(rows, mode, chances) for mode in modes}
    return [
        f"no better than chance: {mode} at {', '.join(map(str, asked))}"
        for mode, asked in tried.items()
        if asked and not any(attempt.above_chance for attempt in asked)
    ]
