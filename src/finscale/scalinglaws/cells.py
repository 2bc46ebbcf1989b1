"""From run records to cells: the unit of inference is the cell, so seeds are averaged first.

Excess loss is baseline - model on the same rows, in nats: positive is better than the base rate.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from finscale.core.errors import Fault

__all__ = ["CELL_COLUMNS", "CellMeans", "Note", "cell_means"]

CELL_COLUMNS = ("n_budget", "horizon", "n_params", "seed", "split", "excess_loss")


class Note(StrEnum):
    """Something about the data that a reader of the verdict should know."""

    NOT_FINITE_DROPPED = "not_finite_dropped"
    NOT_COMPLETE_DROPPED = "not_complete_dropped"
    ONE_SEED = "one_seed"
    MISSING_CELLS = "missing_cells"
    LOSS_ABOVE_BASE_RATE = "loss_above_base_rate"


@dataclass(frozen=True)
class CellMeans:
    """One row per cell that has a usable run.

    Attributes
    ----------
    table : DataFrame
        n_budget, horizon, log10_n, excess_loss (mean over seeds), n_seeds, seed_variance (NaN with one seed).
    n_dropped : int
        Runs left out.
    notes : tuple of Note
    """

    table: pd.DataFrame
    n_dropped: int
    notes: tuple[Note, ...]


def cell_means(cells: pd.DataFrame, *, split: str) -> CellMeans:
    """Average the seeds of every cell on one split.

    Parameters
    ----------
    cells : DataFrame
        One row per (cell, seed, split) with ``CELL_COLUMNS``; with a column ``outcome``, runs whose outcome
        is not ``complete`` are left out. So are runs whose excess loss or N is not a finite number.
    split : str
        ``val_score`` or ``test``.

    Raises
    ------
    Fault
        When a column is missing.
    """
    missing = [column for column in CELL_COLUMNS if column not in cells.columns]
    if missing:
        raise Fault(
            "cells", f"have the columns {', '.join(CELL_COLUMNS)}", f"none named {', '.join(missing)}"
        )
    rows = cells[cells["split"] == split]
    complete = _is_complete(rows)
    finite = _is_finite(rows)
    table = _average(rows[complete & finite])
    notes = _notes(table, all_complete=bool(complete.all()), all_finite=bool(finite[complete].all()))
    return CellMeans(table, int((~(complete & finite)).sum()), notes)


def _is_complete(rows: pd.DataFrame) -> pd.Series:
    if "outcome" not in rows.columns:
        return pd.Series(True, index=rows.index)
    return rows["outcome"] == "complete"


def _is_finite(rows: pd.DataFrame) -> pd.Series:
    excess, n = _numbers(rows["excess_loss"]), _numbers(rows["n_params"])
    return pd.Series(np.isfinite(excess) & np.isfinite(n) & (n > 0), index=rows.index)


def _numbers(column: pd.Series) -> np.ndarray:
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _average(rows: pd.DataFrame) -> pd.DataFrame:
    """Average repeated rows of a seed, then the seeds of a cell."""
    excess = _numbers(rows["excess_loss"])
    numeric = rows.assign(excess_loss=excess, log10_n=np.log10(_numbers(rows["n_params"])))
    by_seed = numeric.groupby(["n_budget", "horizon", "seed"], as_index=False)[
        ["log10_n", "excess_loss"]
    ].mean()
    grouped = by_seed.groupby(["n_budget", "horizon"], as_index=False)
    return grouped.agg(
        log10_n=("log10_n", "mean"),
        excess_loss=("excess_loss", "mean"),
        n_seeds=("seed", "size"),
        seed_variance=("excess_loss", "var"),
    )


def _notes(table: pd.DataFrame, *, all_complete: bool, all_finite: bool) -> tuple[Note, ...]:
    n_expected = table["n_budget"].nunique() * table["horizon"].nunique()
    found = {
        Note.NOT_FINITE_DROPPED: not all_finite,
        Note.NOT_COMPLETE_DROPPED: not all_complete,
        Note.ONE_SEED: bool((table["n_seeds"] == 1).any()),
        Note.MISSING_CELLS: len(table) < n_expected,
        Note.LOSS_ABOVE_BASE_RATE: bool((table["excess_loss"] < 0).any()),
    }
    return tuple(note for note, holds in found.items() if holds)
