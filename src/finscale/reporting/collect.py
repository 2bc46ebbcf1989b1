"""Gather the records of an experiment's cells into the tables that a report is made of.

Records name their loss by the task (``log_loss``, ``squared_error``, ``pinball_loss``); from here on it is
called ``loss``.
"""

from collections.abc import Mapping

import pandas as pd

from finscale.core.budgets import Cell
from finscale.windows.measures import Measure
from finscale.windows.origins import ORIGIN

__all__ = [
    "baseline_table",
    "baselines_by_date",
    "cells_table",
    "cost_table",
    "date_loss_table",
    "grid_table",
    "searched_rows",
    "trial_table",
]

_REPORTED = ("val_score", "test")


def cells_table(
    runs: Mapping[str, pd.DataFrame], trials: Mapping[str, pd.DataFrame], measure: Measure
) -> pd.DataFrame:
    """Return one row per (cell, seed, split) with the size of the search behind it.

    Parameters
    ----------
    runs, trials : mapping
        Cell id to that cell's rows.
    """
    frames = [_cell(rows, trials.get(cell)) for cell, rows in runs.items()]
    table = pd.concat(frames, ignore_index=True)
    return _named(table[table["split"].isin(_REPORTED)].reset_index(drop=True), measure)


def _named(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    return table.rename(columns={measure.column: "loss"})


def _cell(runs: pd.DataFrame, trials: pd.DataFrame | None) -> pd.DataFrame:
    counted = _counted(trials) if trials is not None else None
    return runs.assign(
        flags=runs["flags"].map(tuple),
        n_trials=0 if counted is None else len(counted),
        n_random=0 if counted is None else int((counted["kind"] == "random").sum()),
    )


def _counted(trials: pd.DataFrame) -> pd.DataFrame:
    return trials[
        trials["outcome"].isin(["complete", "pruned", "diverged"]) & (trials["kind"] != "supplemental")
    ]


def trial_table(trials: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return every cell's trials, each beside the reference's loss on the rows that the search looked at."""
    frames = [_trials(rows, Cell.from_id(cell_id)) for cell_id, rows in trials.items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _trials(rows: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """A trial that did not come to record the reference's loss has that of the others: same rows."""
    reference = rows["base_rate_loss"].fillna(rows["base_rate_loss"].mean())
    return rows.assign(
        budget=cell.budget, n_budget=cell.n_budget, horizon=cell.horizon, base_rate_loss=reference
    )


def searched_rows(losses: pd.DataFrame) -> pd.DataFrame:
    """Return the baseline losses on the rows that a search looks at: val_select of the first fold."""
    return losses[(losses["split"] == "val_select") & (losses["fold"] == 0)]


def baselines_by_date(losses: Mapping[int, pd.DataFrame], measure: Measure) -> pd.DataFrame:
    """Return every horizon's baseline losses, one row per (horizon, split, baseline, origin)."""
    frames = [rows.assign(horizon=h) for h, rows in sorted(losses.items())]
    return _named(pd.concat(frames, ignore_index=True), measure)


def baseline_table(scores: Mapping[int, pd.DataFrame], measure: Measure) -> pd.DataFrame:
    """Return one row per (horizon, split, baseline): loss, excess_loss over the reference, further scores."""
    frames = [_with_excess(rows.assign(horizon=h), measure) for h, rows in sorted(scores.items())]
    return pd.concat(frames, ignore_index=True)


def _with_excess(scores: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    named = _named(scores, measure)
    reference = named[named["baseline"] == measure.reference].set_index("split")["loss"]
    return named.assign(excess_loss=named["split"].map(reference) - named["loss"])


def date_loss_table(
    dates: Mapping[str, pd.DataFrame], losses: pd.DataFrame, measure: Measure
) -> pd.DataFrame:
    """Return the cells' losses by origin, each beside the reference's on the same origin.

    Parameters
    ----------
    losses : DataFrame
        Of `baselines_by_date`.
    """
    keys = ["horizon", "split", *ORIGIN]
    reference = losses[losses["baseline"] == measure.reference][[*keys, "loss"]]
    table = _named(pd.concat(dates.values(), ignore_index=True), measure)
    return table.merge(reference.rename(columns={"loss": "base_rate_loss"}), on=keys, validate="many_to_one")


def cost_table(runs: Mapping[str, pd.DataFrame], trials: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return what every cell took, its trials and final trainings together: seconds, and windows seen."""
    rows = []
    for cell_id, of_cell in runs.items():
        finals = of_cell.drop_duplicates("seed")
        parts = [finals, trials[cell_id]] if cell_id in trials else [finals]
        cell = Cell.from_id(cell_id)
        place = {"budget": cell.budget, "n_budget": cell.n_budget, "horizon": cell.horizon}
        rows.append({**place, "seconds": sum(map(_seconds, parts)), "windows": sum(map(_windows, parts))})
    return pd.DataFrame(rows)


def _seconds(rows: pd.DataFrame) -> float:
    return float(rows["seconds"].fillna(0).sum())


def _windows(rows: pd.DataFrame) -> float:
    """Of trials that recorded their steps; a failed or recovered one may not have."""
    return float((rows["n_steps"].astype("Float64") * rows["effective_batch_size"]).fillna(0).sum())


def grid_table(grids: Mapping[str, pd.DataFrame], cells: pd.DataFrame) -> pd.DataFrame:
    """Return the grids from which the cells' winners came, known by the winners' own arch_id."""
    winners = set(cells["arch_id"])
    kept = [grid for grid in grids.values() if winners & set(grid["arch_id"])]
    columns = ["budget", "arch_id", "d_model", "n_layers", "n_params", "flops_training"]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=pd.Index(columns))
