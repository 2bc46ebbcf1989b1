"""Tables of a long-context evaluation: accuracy with its intervals, and the gates."""

from typing import Any

import pandas as pd

from finscale.longcontext.rows import pool
from finscale.longcontext.verdict import Verdict
from finscale.reporting.tables import Column, Table, count, number

__all__ = ["accuracy_table", "gates_table"]


def accuracy_table(rows: pd.DataFrame, task: str) -> Table:
    """Return the accuracy of one task: modes by length, each with its interval."""
    pooled = pool(rows[rows["task"] == task], ["mode", "length"])
    lengths = sorted(pooled["length"].unique())
    by_place = {(row.mode, row.length): row for row in pooled.itertuples()}
    modes = dict.fromkeys(rows["mode"])
    shown = tuple((mode, *(_share(by_place.get((mode, length))) for length in lengths)) for mode in modes)
    columns = (Column(name="mode", align="left"), *(Column(name=str(length)) for length in lengths))
    note = "Accuracy over depths and seeds with its 95 % Wilson interval."
    return Table(title=f"Accuracy: {task}", columns=columns, rows=shown, note=note)


def gates_table(verdict: Verdict) -> Table:
    """Return every gate with its numbers."""
    names = ("gate", "mode", "outcome", "estimate", "low", "high", "threshold", "n", "why")
    left = {"gate", "mode", "outcome", "why"}
    columns = tuple(Column(name=name, align="left" if name in left else "right") for name in names)
    rows = tuple(
        (
            gate.name.replace("_", " "),
            gate.mode,
            gate.outcome.replace("_", " "),
            *(number(value, 3) for value in (gate.estimate, gate.low, gate.high, gate.threshold)),
            count(gate.n),
            gate.reason,
        )
        for gate in verdict.gates
    )
    note = "A gate passes or fails where its whole 95 % interval lies on one side of its threshold."
    return Table(title="Gates", columns=columns, rows=rows, note=note)


def _share(row: Any) -> str:
    return "" if row is None else f"{row.acc:.2f} [{row.low:.2f}, {row.high:.2f}]"
