"""Gather the records of an experiment's cells into the tables that a report is made of."""

from collections.abc import Mapping

import pandas as pd

from finscale.core.budgets import Cell
from finscale.windows.origins import ORIGIN

__all__ = [
    "baseline_table",
    "baselines_by_date",
    "cells_table",
    "date_loss_table",
    "grid_table",
    "searched_rows",
    "trial_table",
]

_REPORTED = ("val_score", "test")


def cells_table(runs: Mapping[str, pd.DataFrame], trials: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row per (cell, seed, split) with the size of the search behind it.

    Parameters
    ----------
    runs, trials : mapping
        Cell id to that cell's rows.
    """
    frames = [_cell(rows, trials.get(cell)) for cell, rows in runs.items()]
    table = pd.concat(frames, ignore_index=True)
    return table[table["split"].isin(_REPORTED)].reset_index(drop=True)


def _cell(runs: pd.DataFrame, trials: pd.DataFrame | None) -> pd.DataFrame:
    counted = _counted(trials) if trials is not None else None
    return runs.assign(
        flags=runs["flags"].map(tuple),
        n_trials=0 if counted is None else len(counted),
        n_random=0 if counted is None else int((counted["kind"] == "random").sum()),
    )


def _counted(trials: pd.DataFrame) -> pd.DataFrame:
    return trials[trials["outcome"].isin(["complete", "diverged"])]


def trial_table(trials: Mapping[str, pd.DataFrame], losses: pd.DataFrame) -> pd.DataFrame:
    """Return every cell's trials, with the base-rate loss on the rows that the search looked at.

    Parameters
    ----------
    losses : DataFrame
        Of `baselines_by_date`.
    """
    on_select = searched_rows(losses)
    base = on_select[on_select["baseline"] == "base_rate"].groupby("horizon")["log_loss"].mean()
    frames = []
    for cell_id, rows in trials.items():
        cell = Cell.from_id(cell_id)
        frames.append(
            rows.assign(
                budget=cell.budget,
                n_budget=cell.n_budget,
                horizon=cell.horizon,
                base_rate_loss=base.get(cell.horizon, float("nan")),
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def searched_rows(losses: pd.DataFrame) -> pd.DataFrame:
    """Return the baseline losses on the rows that a search looks at: val_select of the first fold."""
    return losses[(losses["split"] == "val_select") & (losses["fold"] == 0)]


def baselines_by_date(losses: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return every horizon's baseline losses, one row per (horizon, split, baseline, origin)."""
    return pd.concat([rows.assign(horizon=h) for h, rows in sorted(losses.items())], ignore_index=True)


def baseline_table(losses: Mapping[int, pd.DataFrame], scores: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return one row per (horizon, split, baseline): log_loss, excess_loss over the base rate, auc."""
    assert losses.keys() == scores.keys()
    frames = [_with_excess(rows.assign(horizon=h)) for h, rows in sorted(scores.items())]
    return pd.concat(frames, ignore_index=True)


def _with_excess(scores: pd.DataFrame) -> pd.DataFrame:
    base = scores[scores["baseline"] == "base_rate"].set_index("split")["log_loss"]
    return scores.assign(excess_loss=scores["split"].map(base) - scores["log_loss"])


def date_loss_table(dates: Mapping[str, pd.DataFrame], losses: pd.DataFrame) -> pd.DataFrame:
    """Return the cells' losses by origin, each beside the base rate's on the same origin."""
    keys = ["horizon", "split", *ORIGIN]
    base = losses[losses["baseline"] == "base_rate"][[*keys, "log_loss"]]
    table = pd.concat(dates.values(), ignore_index=True)
    return table.merge(base.rename(columns={"log_loss": "base_rate_loss"}), on=keys, validate="many_to_one")


def grid_table(grids: Mapping[str, pd.DataFrame], cells: pd.DataFrame) -> pd.DataFrame:
    """Return the grids from which the cells' winners came, known by the winners' own arch_id."""
    winners = set(cells["arch_id"])
    kept = [grid for grid in grids.values() if winners & set(grid["arch_id"])]
    columns = ["budget", "d_model", "n_layers", "n_params"]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=pd.Index(columns))
