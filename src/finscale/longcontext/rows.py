"""What an evaluation leaves behind: tidy rows of accuracy, each with its Wilson interval. No torch."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import norm

from finscale.core.config import Record
from finscale.longcontext.task_names import Task

__all__ = ["RetrievalRow", "accuracy", "ignore", "metrics_lines", "pool", "rows_table", "wilson_interval"]

_Z = float(norm.ppf(0.975))
_METRICS = ("task", "length", "depth", "mode", "acc", "seed", "runtime_s")
_LOGGED = ("peak_bytes", "tokens_per_s")


class RetrievalRow(Record):
    """One question asked of n sequences of one model.

    Parameters
    ----------
    task, length, depth
        What was asked, in how many symbols or tokens, and where the answer stood; None of a task that has
        no one place.
    mode, seed
        Of the model; the seed also names the questions.
    acc, low, high, n
        Mean score of the n sequences, and its 95 % Wilson interval.
    scores : tuple of float
        Of each sequence: the share of its answers that are right. The same place in two modes is the same
        question.
    exact_match, f1, rouge, perplexity : float or None
        Of answers in words, where asked for (`finscale.longcontext.scoring`).
    runtime_s : float
        Wall time of the n answers.
    peak_bytes, tokens_per_s : int, float or None
        Peak memory, and tokens read per second, where ``system.log_memory`` and ``log_throughput`` are on.
    engine : str
        Who asked and scored: ``finscale``, or ``lm_eval`` of its own tasks.
    """

    task: Task
    length: int
    depth: float | None
    mode: str
    acc: float
    low: float
    high: float
    n: int
    seed: int
    runtime_s: float
    scores: tuple[float, ...]
    exact_match: float | None = None
    f1: float | None = None
    rouge: float | None = None
    perplexity: float | None = None
    peak_bytes: int | None = None
    tokens_per_s: float | None = None
    engine: Literal["finscale", "lm_eval"] = "finscale"


def ignore(row: RetrievalRow) -> None:
    """Listen to nothing."""


def wilson_interval(n_right: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927, without continuity correction).

    Of sequences that are right in part it is too wide rather than too narrow: a mean of scores in [0, 1]
    varies at most as much as a share of right and wrong does.

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson_interval(0, 16)]
    [0.0, 0.194]
    """
    share, z2 = n_right / n, _Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    spread = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    # exact at the ends, where rounding would leave a share of none above 0
    low = centre - spread if n_right > 0 else 0.0
    high = centre + spread if n_right < n else 1.0
    return max(0.0, low), min(1.0, high)


def rows_table(rows: Sequence[RetrievalRow]) -> pd.DataFrame:
    """Return the rows as a tidy table."""
    table = pd.DataFrame([row.model_dump() for row in rows], columns=list(RetrievalRow.model_fields))
    numbers = ["depth", "exact_match", "f1", "rouge", "perplexity", *_LOGGED]
    return table.astype(dict.fromkeys(numbers, float))


def metrics_lines(table: pd.DataFrame) -> str:
    """Return ``metrics.jsonl``: one JSON object per row of the table, depth null where a task has none.

    Memory and speed are there where any row has them.
    """
    names = [*_METRICS, *(name for name in _LOGGED if table[name].notna().any())]
    records = table[names].astype(object).where(table[names].notna(), None)
    return "".join(json.dumps(record) + "\n" for record in records.to_dict("records"))


def pool(table: pd.DataFrame, by: Iterable[str]) -> pd.DataFrame:
    """Add up the rows that agree in ``by`` and give each sum its own Wilson interval.

    The interval holds the error of sampling questions for these models; how models differ is seen by
    keeping ``seed`` among ``by``.
    """
    counted = table.assign(n_right=table["acc"] * table["n"])
    sums = counted.groupby(list(by), sort=True)[["n_right", "n"]].sum().reset_index()
    shares = [_share(right, int(n)) for right, n in zip(sums["n_right"], sums["n"], strict=True)]
    return pd.concat([sums[list(by)], pd.DataFrame(shares)], axis=1)


def accuracy(scores: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Return the fields ``acc, low, high, n, scores`` of a row."""
    return {**_share(float(np.sum(scores)), len(scores)), "scores": tuple(float(x) for x in scores)}


def _share(n_right: float, n: int) -> dict[str, float | int]:
    low, high = wilson_interval(n_right, n)
    return {"acc": n_right / n, "low": low, "high": high, "n": n}
