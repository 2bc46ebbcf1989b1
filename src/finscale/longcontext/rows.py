"""What an evaluation leaves behind: tidy rows of accuracy, each with its Wilson interval. No torch."""

import json
from collections.abc import Iterable, Sequence

import pandas as pd
from scipy.stats import binomtest

from finscale.core.config import Record
from finscale.longcontext.config import Positions, Task

__all__ = ["RetrievalRow", "accuracy", "metrics_lines", "pool", "rows_table", "wilson_interval"]

_METRICS = ("task", "length", "depth", "mode", "acc", "seed", "runtime_s")


class RetrievalRow(Record):
    """One question asked n times of one decoder.

    Parameters
    ----------
    task, length, depth
        What was asked, in how many symbols, and where the answer stood.
    mode, seed
        Positional encoding and seed of the decoder.
    acc, low, high, n
        Share of right answers, its 95 % Wilson interval, and the number of samples.
    runtime_s : float
        Wall time of the n answers.
    """

    task: Task
    length: int
    depth: float
    mode: Positions
    acc: float
    low: float
    high: float
    n: int
    seed: int
    runtime_s: float


def wilson_interval(n_right: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927, without continuity correction).

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson_interval(0, 16)]
    [0.0, 0.194]
    """
    interval = binomtest(n_right, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def rows_table(rows: Sequence[RetrievalRow]) -> pd.DataFrame:
    """Return the rows as a tidy table."""
    return pd.DataFrame([row.model_dump() for row in rows], columns=list(RetrievalRow.model_fields))


def metrics_lines(table: pd.DataFrame) -> str:
    """Return ``metrics.jsonl``: one JSON object per row of the table."""
    records = table[list(_METRICS)].to_dict("records")
    return "".join(json.dumps(record) + "\n" for record in records)


def pool(table: pd.DataFrame, by: Iterable[str]) -> pd.DataFrame:
    """Add up the rows that agree in ``by`` and give each sum its own Wilson interval.

    The interval holds the error of sampling questions for these decoders; how decoders differ is seen by
    keeping ``seed`` among ``by``.
    """
    counted = table.assign(n_right=(table["acc"] * table["n"]).round().astype(int))
    sums = counted.groupby(list(by), sort=True)[["n_right", "n"]].sum().reset_index()
    shares = [accuracy(int(n_right), int(n)) for n_right, n in zip(sums["n_right"], sums["n"], strict=True)]
    return pd.concat([sums[list(by)], pd.DataFrame(shares)], axis=1)


def accuracy(n_right: int, n: int) -> dict[str, float | int]:
    """Return the fields ``acc, low, high, n`` of a row."""
    low, high = wilson_interval(n_right, n)
    return {"acc": n_right / n, "low": low, "high": high, "n": n}
