"""Supplemental trials: architectures that a user names, run on top of a search.

A plan is a YAML list of rows. A run takes the rows of its own cell, and all of them are judged before the
first trial. They are proposed once the search has its ``n_trials``, with the best training parameters found
by then or with given ones.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import yaml
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field, field_validator

from finscale.archgrid.base import D_FF_RATIOS, DIMENSIONS, GridConfig, parse_grid_base
from finscale.archgrid.enumerate import architecture_row, require_admissible
from finscale.core.budgets import Cell, format_budget, parse_budget, parse_horizon
from finscale.core.config import Record
from finscale.core.errors import Fault, FinscaleError, raise_faults, suggest
from finscale.core.hashing import content_hash
from finscale.search.best import lowest
from finscale.search.bound_space import BoundSpace
from finscale.search.dimensions import center, holds
from finscale.search.proposals import SUPPLEMENTAL, Proposal, Proposer, has_result
from finscale.windows.view import WindowView

__all__ = ["Bounds", "Named", "SupplementalRow", "Supplements", "read_plan", "resolve_plan"]

Named = tuple[Mapping[str, Any], Mapping[str, Any]]
"""An architecture (a row of the candidates) and the training parameters that were given for it."""

T = TypeVar("T")

_REMEDY = "write a list of rows like {d_model: 64, n_layers: 64, n_heads: 8, d_ff: 128}"


class SupplementalRow(Record):
    """One architecture to be run beside those that a search chooses.

    Parameters
    ----------
    d_model, n_layers, n_heads : int
        Of any shape within the budget, whether or not the cell's grid holds it.
    d_ff : int, optional
        May be left out where the grid's ratios to d_model leave one choice within the budget.
    training : dict
        Training parameters that replace the best ones so far.
    budgets, horizons : tuple, optional
        Cells that the row belongs to; None means all.
    """

    d_model: int = Field(ge=1)
    n_layers: int = Field(ge=1)
    n_heads: int = Field(ge=1)
    d_ff: int | None = Field(default=None, ge=1)
    training: dict[str, Any] = Field(default_factory=dict)
    budgets: tuple[str, ...] | None = None
    horizons: tuple[int, ...] | None = None

    @field_validator("budgets")
    @classmethod
    def _canonical_budgets(cls, budgets: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return budgets and tuple(format_budget(parse_budget(budget)) for budget in budgets)

    @field_validator("horizons")
    @classmethod
    def _whole_bars(cls, horizons: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return horizons and tuple(map(parse_horizon, horizons))

    @property
    def shape(self) -> str:
        """In a few characters, for messages."""
        return f"d={self.d_model}, L={self.n_layers}, heads={self.n_heads}"

    def belongs_to(self, cell: Cell) -> bool:
        """Whether a run of ``cell`` takes this row."""
        has_budget = self.budgets is None or cell.budget in self.budgets
        return has_budget and (self.horizons is None or cell.horizon in self.horizons)


def read_plan(path: Path) -> tuple[SupplementalRow, ...]:
    """Read a plan.

    Raises
    ------
    FinscaleError
        When the file is missing or no list, or with every fault of its rows at once.
    """
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Fault("hpo.supplemental", "name a readable file", str(path), error.strerror or "") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Fault(str(path), "be valid YAML", " ".join(str(error).split()), _REMEDY) from None
    if not isinstance(rows, list) or not rows:
        raise Fault(str(path), "hold a list of rows", type(rows).__name__, _REMEDY)
    named = ((row, f"{path.name} row {at}") for at, row in enumerate(rows, start=1))
    return tuple(_collected(partial(_row, row, subject) for row, subject in named))


@dataclass(frozen=True)
class Bounds:
    """What a named architecture is judged by.

    Parameters
    ----------
    table : DataFrame
        Candidates of the cell.
    space : BoundSpace
        What may be searched.
    base : GridConfig
        What the cell's grid keeps fixed.
    n_features, context_length : int
        F and T of the windows, which N depends on.
    tolerance : float
        Half-width of the band around the budget.
    """

    table: pd.DataFrame
    space: BoundSpace
    base: GridConfig
    n_features: int
    context_length: int
    tolerance: float


def resolve_plan(plan: Sequence[SupplementalRow], cell: Cell, bounds: Bounds) -> list[Named]:
    """Return the architecture (a row of the table, or one like it) and the given training of every row.

    Raises
    ------
    FinscaleError
        With every row outside the budget (its true N and the nearest admissible shapes), every d_ff that is
        missing and not unique, and every training parameter that is not searched or out of range, at once.
    """
    mine = [row for row in plan if row.belongs_to(cell)]
    like = _Like.of(bounds)
    architectures = [partial(like.architecture, row, cell.n_budget) for row in mine]
    given = [partial(_given, row, bounds.space.free) for row in mine]
    found: list[Any] = _collected([*architectures, *given])
    return list(zip(found[: len(mine)], found[len(mine) :], strict=True))


class Supplements:
    """The rows of a plan, proposed one after the other once a search has its total.

    Parameters
    ----------
    rows : sequence of Named
        From `resolve_plan`.
    proposer : Proposer
        Of the same study; knows the coordinates of an architecture.
    space : BoundSpace
        What else is drawn for it.
    """

    def __init__(self, rows: Sequence[Named], *, proposer: Proposer, space: BoundSpace) -> None:
        self._rows = {content_hash(row["arch_id"], given): (row, given) for row, given in rows}
        self._proposer, self._space = proposer, space
        self._asked: set[str] = set()

    def next(self, trials: Sequence[FrozenTrial]) -> Proposal | None:
        """Return the next row that no trial has run; a row that failed is tried again by the next session."""
        for identity in self.left(trials):
            self._asked.add(identity)
            return self._proposal(identity, trials)
        return None

    def left(self, trials: Sequence[FrozenTrial]) -> list[str]:
        """Return the rows that are still to be asked, by their content hash."""
        kept = (trial for trial in trials if has_result(trial) or trial.state == TrialState.RUNNING)
        done = {trial.user_attrs.get("supplemental_id") for trial in kept}
        return [identity for identity in self._rows if identity not in done | self._asked]

    def _proposal(self, identity: str, trials: Sequence[FrozenTrial]) -> Proposal:
        row, given = self._rows[identity]
        best = lowest(trials)
        drawn = {} if best is None else best.params
        point = {name: drawn.get(name, center(found)) for name, found in self._space.free.items()}
        training = self._space.training(row, self._space.active(row, {**point, **given}))
        return self._proposer.named(SUPPLEMENTAL, row, training, {"supplemental_id": identity})


def _row(values: Any, subject: str) -> SupplementalRow:
    if not isinstance(values, Mapping):
        raise Fault(subject, "be a mapping", values, _REMEDY)
    return SupplementalRow.read(values, subject=subject)


@dataclass(frozen=True)
class _Like:
    """A row of the table, whose options and view a named architecture takes over.

    It is one of the grid's own options and of all that the windows hold, where the space leaves such a row.
    """

    bounds: Bounds
    row: Mapping[str, Any]
    config: GridConfig
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, bounds: Bounds) -> "_Like":
        rows = [{str(name): value for name, value in row.items()} for row in bounds.table.to_dict("records")]
        row = next((row for row in rows if _is_plain(row, bounds.base)), rows[0])
        view = WindowView.model_validate_json(row["view"]) if row.get("view") else WindowView()
        sizes = view.sizes(n_features=bounds.n_features, context_length=bounds.context_length)
        return cls(bounds, row, parse_grid_base(json.loads(row["config"])), sizes)

    def architecture(self, row: SupplementalRow, budget: int) -> dict[str, Any]:
        """Return the table's row of an architecture, or one that the table lacks."""
        found = architecture_row(self._config(row, budget), **self.sizes)
        table = self.bounds.table
        same = table[table["arch_id"] == found["arch_id"]]
        if len(same):
            return {str(name): value for name, value in same.iloc[0].to_dict().items()}
        if self.bounds.space.row_groups:
            rule = "be a candidate where hpo.space.linked ties architectures or options"
            raise Fault(f"architecture ({row.shape})", rule, "none", "add it to the linked lists")
        return {**self.row, **found}

    def _config(self, row: SupplementalRow, budget: int) -> GridConfig:
        """Return the config; without a d_ff, that of the one ratio of the grid that fits."""
        widths = [ratio * row.d_model for ratio in D_FF_RATIOS] if row.d_ff is None else [row.d_ff]
        fitting: list[GridConfig] = []
        faults: list[Exception] = []
        for d_ff in widths:
            try:
                fitting.append(self._admissible(row, d_ff, budget))
            except FinscaleError as fault:
                faults.append(fault)
        if not fitting:
            raise_faults(faults)
        if len(fitting) > 1:
            rule = f"name its d_ff where several lie within the budget {format_budget(budget)}"
            remedy = f"add d_ff: {' or '.join(str(config.d_ff) for config in fitting)}"
            raise Fault(f"architecture ({row.shape})", rule, "none", remedy)
        return fitting[0]

    def _admissible(self, row: SupplementalRow, d_ff: int, budget: int) -> GridConfig:
        return require_admissible(
            d_model=row.d_model,
            n_layers=row.n_layers,
            n_heads=row.n_heads,
            d_ff=d_ff,
            budget=budget,
            base=self.config,
            tolerance=self.bounds.tolerance,
            **self.sizes,
        )


def _is_plain(row: Mapping[str, Any], base: GridConfig) -> bool:
    """Whether a row differs from the base in nothing but its architecture."""
    ours = base.model_dump(mode="json", exclude={*DIMENSIONS, "dropout"})
    theirs = json.loads(row["config"])
    return not row.get("view") and all(theirs[name] == value for name, value in ours.items())


def _given(row: SupplementalRow, distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    """Check what a row gives against the space: a study records nothing outside its distributions."""
    faults = []
    for name, value in row.training.items():
        subject, found = f"supplemental ({row.shape}): training.{name}", distributions.get(name)
        if found is None:
            remedy = suggest(name, distributions)
            faults.append(Fault(subject, "be a searched training dimension outside of groups", value, remedy))
        elif not holds(found, value):
            faults.append(Fault(subject, f"lie in {found}", value, "widen hpo.space"))
    raise_faults(faults)
    return dict(row.training)


def _collected(checks: Iterable[Callable[[], T]]) -> list[T]:
    """Return what every check returns; raise the faults of all at once."""
    found: list[T] = []
    faults: list[Exception] = []
    for check in checks:
        try:
            found.append(check())
        except FinscaleError as fault:
            faults.append(fault)
    raise_faults(faults)
    return found
