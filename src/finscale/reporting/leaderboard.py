"""The best trials of one search, with what their losses are worth."""

from typing import Any

import pandas as pd

from finscale.reporting.dimensions import finite_trials, searched
from finscale.reporting.study import CellKey, ReportInput
from finscale.reporting.tables import Cell, Column, Table, count, number, signed

__all__ = ["leaderboard", "seed_spread"]

_N_SHOWN = 10
_COUNTED = ("COMPLETE", "PRUNED", "FAIL")
_SHAPE = ("d_model", "n_layers", "n_heads", "d_ff")


def leaderboard(study: ReportInput, key: CellKey) -> Table:
    """Return the ten best trials of a cell, with the spread that seeds alone make."""
    trials = study.trials[(study.trials["budget"] == key.budget) & (study.trials["horizon"] == key.horizon)]
    best = finite_trials(trials).sort_values(["value", "number"]).head(_N_SHOWN)
    settings = [name for name in searched(trials) if len(set(trials[name].map(str))) > 1]
    rows = [_row(rank, row, settings) for rank, (_, row) in enumerate(best.iterrows(), start=1)]
    heads = ("rank", "trial", "kind", "loss", "excess", "N", "width", "depth", "heads", "d_ff")
    columns = [*heads, *(name.replace("_", " ") for name in settings)]
    return Table(
        title=f"Leaderboard of {key.id}",
        columns=tuple(Column(name=name, align="left" if name == "kind" else "right") for name in columns),
        rows=tuple(rows),
        note=_note(study, key, n_tried=int(trials["state"].astype(str).isin(_COUNTED).sum())),
    )


def seed_spread(study: ReportInput, key: CellKey) -> float | None:
    """Return the standard deviation of the winner's loss on val_score over its seeds; None below two."""
    cells = study.cells
    own = (cells["budget"] == key.budget) & (cells["horizon"] == key.horizon)
    rows = cells[own & (cells["split"] == "val_score") & (cells["outcome"] == "complete")]
    losses = rows["loss"].astype(float).dropna()
    return float(losses.std(ddof=1)) if len(losses) > 1 else None


def _row(rank: int, row: pd.Series, settings: list[str]) -> tuple[Cell | str, ...]:
    return (
        count(rank),
        count(row["number"]),
        str(row["kind"]),
        number(row["value"]),
        signed(row["base_rate_loss"] - row["value"]),
        Cell(value=int(row["n_params"]), form="n"),
        *(count(row[name]) for name in _SHAPE),
        *(_setting(row[name]) for name in settings),
    )


def _setting(value: Any) -> Cell:
    if value is None or pd.isna(value):
        return Cell()
    if isinstance(value, bool | str):
        return Cell(value=str(value))
    return (
        Cell(value=int(value), form="d")
        if float(value).is_integer()
        else Cell(value=float(value), form=".3g")
    )


def _note(study: ReportInput, key: CellKey, *, n_tried: int) -> str:
    chosen = (
        f"Losses on the half of validation that the search saw, the best of {n_tried} trials tried: the "
        "least of many is lower than it would be on other rows."
    )
    spread = seed_spread(study, key)
    if spread is None:
        return f"{chosen} How far seeds alone spread is not known."
    return (
        f"{chosen} Seeds alone spread by {spread:.4f} (standard deviation of the retrained winner on "
        "val_score); trials closer than that are not told apart."
    )
