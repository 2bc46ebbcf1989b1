"""What a report is made of: the tables of one experiment, its verdict, and where they come from.

``loss`` is the task's own (see ``ReportInput.measure``). Excess loss is reference - model on the same rows:
positive is better. ``base_rate_loss`` is the reference's, whatever the task.
"""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from finscale.core.budgets import Cell
from finscale.core.citation import cite, plain
from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.scalinglaws.verdict import ScalingVerdict
from finscale.windows.measures import Measure

__all__ = ["COLUMNS", "CellKey", "Checklist", "Provenance", "ReportInput"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "cells": (
        *("budget", "n_budget", "horizon", "seed", "arch_id", "d_model", "n_layers", "n_heads", "d_ff"),
        *("n_params", "split", "loss", "base_rate_loss", "excess_loss", "outcome"),
        *("flags", "n_trials", "n_random", "n_steps", "effective_batch_size"),
    ),
    "trials": (
        *("budget", "horizon", "number", "kind", "state", "value", "base_rate_loss", "n_params"),
        *("d_model", "n_layers", "n_heads", "d_ff", "seconds"),
    ),
    "baselines": ("horizon", "split", "baseline", "loss", "excess_loss"),
    "date_losses": ("budget", "horizon", "seed", "split", "date", "loss", "base_rate_loss"),
    "baselines_by_date": ("horizon", "split", "baseline", "date", "loss"),
    "grid": ("budget", "arch_id", "d_model", "n_layers", "n_params", "flops_training"),
    "costs": ("budget", "n_budget", "horizon", "seconds", "windows"),
}


class CellKey(NamedTuple):
    """A cell as the tables name it."""

    budget: str
    horizon: int

    @property
    def id(self) -> str:
        """The canonical cell id, e.g. ``20M_h3``."""
        return f"{self.budget}_h{self.horizon}"


class Provenance(Record):
    """Where a result comes from; shown under every figure."""

    commit: str
    environment: str
    data_hash: str

    def line(self, *, at: str = "") -> str:
        """Return it as one short line, whose parts cite the record at ``at``."""
        words = {"commit": self.commit, "environment": self.environment, "data_hash": self.data_hash}
        parts = [f"{name.partition('_')[0]} {cite(word, f'{at}/{name}')}" for name, word in words.items()]
        line = " · ".join(parts)
        return line if at else plain(line)


class Checklist(Record):
    """What only the run knows of the reporting checklist; the report adds what it counted itself."""

    model: str
    which_n: str
    d_definition: str
    checkpoint: str
    objective: str
    optimiser: str
    deviations: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportInput:
    """Everything a report shows.

    Attributes
    ----------
    title : str
        Of the experiment.
    measure : Measure
        The loss of the task: its name, its unit, and what it is compared with.
    verdict : ScalingVerdict
        On val_score.
    test_verdict : ScalingVerdict or None
        The secondary one, on the test period.
    cells : DataFrame
        One row per (cell, seed, split), with the measure's further scores; splits val_score and test;
        ``flags`` holds tuples of words.
    trials : DataFrame
        One row per trial; ``value`` is the loss on val_select, ``base_rate_loss`` that of the same rows.
    baselines : DataFrame
        One row per (horizon, split, baseline).
    date_losses, baselines_by_date : DataFrame
        Mean losses per date.
    grid : DataFrame
        Architecture grids of the budgets, concatenated.
    costs : DataFrame
        One row per cell: seconds and training windows of its trials and final trainings together.
    planned : tuple of str
        Cell ids that the experiment means to run; the missing ones are named.
    data_card : str
        One line on the data.
    warnings : tuple of str
        Sentences about the experiment that belong on every result.
    seed, n_draws : int
        Of the bootstrap of dates.

    Raises
    ------
    FinscaleError
        When a table lacks columns; every fault at once. A table without any column counts as empty.
    """

    title: str
    measure: Measure
    verdict: ScalingVerdict
    test_verdict: ScalingVerdict | None
    cells: pd.DataFrame
    trials: pd.DataFrame
    baselines: pd.DataFrame
    date_losses: pd.DataFrame
    baselines_by_date: pd.DataFrame
    grid: pd.DataFrame
    costs: pd.DataFrame
    planned: tuple[str, ...]
    provenance: Provenance
    data_card: str
    checklist: Checklist
    warnings: tuple[str, ...]
    seed: int
    n_draws: int = 2000

    def __post_init__(self) -> None:
        for name, columns in COLUMNS.items():
            if getattr(self, name).columns.empty:
                object.__setattr__(self, name, pd.DataFrame(columns=list(columns)))
        required = {**COLUMNS, "cells": (*COLUMNS["cells"], *self.measure.scores)}
        raise_faults(
            fault for name in required for fault in _column_faults(name, getattr(self, name), required[name])
        )

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons of the cells, ascending."""
        return tuple(sorted(int(horizon) for horizon in set(self.cells["horizon"])))

    @property
    def budgets(self) -> tuple[str, ...]:
        """Budgets of the cells, ascending in size."""
        sizes = self.cells[["n_budget", "budget"]].drop_duplicates().sort_values("n_budget")
        return tuple(sizes["budget"])

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of planned (or half-present) cells without a usable run on val_score, ascending."""
        usable = self.cells["excess_loss"].notna() & (self.cells["outcome"] == "complete")
        scored = self.cells[usable & (self.cells["split"] == "val_score")]
        present = {CellKey(*key).id for key in zip(scored["budget"], scored["horizon"], strict=True)}
        expected = {*self.planned, *self.verdict.missing, *_ids(self.cells)}
        return tuple(sorted(expected - present, key=_size))


def _column_faults(name: str, table: pd.DataFrame, columns: tuple[str, ...]) -> list[Fault]:
    missing = [column for column in columns if column not in table.columns]
    rule = "have every column of its contract"
    return [Fault(name, rule, f"none named {', '.join(missing)}")] if missing else []


def _ids(cells: pd.DataFrame) -> set[str]:
    return {CellKey(*key).id for key in zip(cells["budget"], cells["horizon"], strict=True)}


def _size(cell_id: str) -> tuple[int, int]:
    cell = Cell.from_id(cell_id)
    return cell.n_budget, cell.horizon
