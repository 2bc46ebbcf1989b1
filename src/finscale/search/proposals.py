"""Which trial comes next: forced extremes, the random stratum, what was queued, then the sampler.

The answer depends only on the trials of the study, the candidates, the space and the seed, never on the
session, so a search that was interrupted continues as if it had not been.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from finscale.archgrid.enumerate import GRID_COLUMNS
from finscale.core.errors import Fault
from finscale.core.hashing import content_hash
from finscale.core.seeding import generator
from finscale.search.bound_space import BoundSpace
from finscale.search.config import SearchConfig
from finscale.search.coordinates import COORDINATES, DISTRIBUTIONS, Coordinates, coordinates
from finscale.search.dimensions import values_of
from finscale.search.extremes import forced_rows
from finscale.search.samplers import propose

__all__ = ["SUPPLEMENTAL", "Proposal", "Proposer", "has_result", "is_counted", "is_under_way"]

SUPPLEMENTAL = "supplemental"
"""Kind of the trials that are run on top of a search."""

_N_REDRAWS = 100
_ROW_ATTRIBUTES = (
    "arch_id",
    "model_family",
    "d_model",
    "n_layers",
    "n_heads",
    "d_ff",
    "n_params",
    "grid_hash",
)


@dataclass(frozen=True)
class Proposal:
    """One candidate with training parameters, before it becomes a trial.

    Parameters
    ----------
    kind : str
        ``extreme``, ``random``, ``transfer``, ``sampler``, ``grid`` or ``supplemental``.
    row : mapping
        A row of the candidates.
    point : mapping
        Its coordinates, by name.
    training : mapping
        The active training dimensions.
    groups : mapping
        Index of each group that was drawn.
    marks : mapping
        What else the study records of it.
    """

    kind: str
    row: Mapping[str, Any]
    point: Mapping[str, float]
    training: Mapping[str, Any]
    groups: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """Content hash: two proposals with one id would train the same thing."""
        shown = {name: value for name, value in self.options.items() if not name.startswith("linked_")}
        return content_hash(self.row["arch_id"], shown, dict(self.training))

    @property
    def options(self) -> dict[str, Any]:
        """What the row decides beside its place in the grid."""
        return {name: value for name, value in self.row.items() if name not in GRID_COLUMNS}

    @property
    def params(self) -> dict[str, Any]:
        """What the study records as parameters: true coordinates, then training parameters."""
        return {**self.point, **self.training, **self.groups}

    @property
    def attributes(self) -> dict[str, Any]:
        """What the study records beside the parameters."""
        shown = {name: self.row[name] for name in _ROW_ATTRIBUTES if name in self.row}
        return {"kind": self.kind, "proposal_id": self.id, **shown, **self.options, **self.marks}

    @property
    def description(self) -> dict[str, Any]:
        """Attributes and training parameters in one mapping, for whoever watches."""
        return {**self.attributes, **self.training}


def has_result(trial: FrozenTrial) -> bool:
    """Whether a trial came to an end that stands: complete, pruned or diverged."""
    diverged = trial.state == TrialState.FAIL and trial.user_attrs.get("outcome") == "diverged"
    return diverged or trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def is_counted(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards ``n_trials``: it has a result, and was not added to the search."""
    return has_result(trial) and not _is_added(trial)


def is_under_way(trial: FrozenTrial) -> bool:
    """Whether a trial counts, or will once it has a result."""
    return is_counted(trial) or (trial.state == TrialState.RUNNING and not _is_added(trial))


def _is_added(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get("kind") == SUPPLEMENTAL


class Proposer:
    """Propose trials over one table of candidates and one space.

    Parameters
    ----------
    table : DataFrame
        Candidates of the cell: a grid, with a column per row dimension that it has not, and the index of each
        linked group of rows. No two rows may be alike.
    config : SearchConfig
        Sampler, sizes.
    space : BoundSpace
        What is drawn for a candidate.
    seed : int
        Seed of the study.
    queue : sequence of Proposal
        What is proposed between the random stratum and the sampler.
    others : sequence of mapping
        Rows outside of the table that recorded trials may come from.

    Raises
    ------
    Fault
        When ``n_trials`` does not fit the number of configurations, or a continuous space is to be listed.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        config: SearchConfig,
        space: BoundSpace,
        *,
        seed: int,
        queue: Sequence[Proposal] = (),
        others: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._rows = [{str(k): v for k, v in row.items()} for row in table.to_dict(orient="records")]
        self._options = [str(name) for name in table.columns if name not in GRID_COLUMNS]
        settled = (*space.row_dimensions, *(group.name for group in space.row_groups))
        self._coordinates = Coordinates.of(table, [name for name in settled if name in self._options])
        self._forced = forced_rows(table)
        self._others = {_row_key(row, self._options): row for row in others}
        self._space, self._seed, self._queue = space, seed, queue
        self._n_random = config.n_random
        self._sampler = config.chosen_sampler(has_conditions=space.has_conditions)
        self._listed: list[Proposal] = []
        self._listing = self._combinations("grid")
        self.n_combinations: float = sum(map(space.n_combinations, self._rows))
        self.n_trials = self._n_trials(config)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Distributions of every parameter that a study may record; a trial has the active ones."""
        return {**DISTRIBUTIONS, **self._space.distributions()}

    def next(self, trials: Sequence[FrozenTrial]) -> Proposal | None:
        """Return the proposal for trial number ``len(trials)``; None when every configuration was tried."""
        taken = {str(trial.user_attrs.get("proposal_id")) for trial in trials if not _is_added(trial)}
        if self._sampler == "grid":
            return self._first_left(taken)
        if self._sampler == "sample":
            return self._draw("random", len(trials), taken)
        return self._next_adaptive(trials, taken)

    def typical(self) -> Proposal:
        """Return the middle of candidates and space; not a trial, but what one looks like."""
        return self._central("typical", len(self._rows) // 2)

    def named(
        self, kind: str, row: Mapping[str, Any], training: Mapping[str, Any], marks: Mapping[str, Any]
    ) -> Proposal:
        """Return a proposal that was not drawn here; its row may be missing from the table."""
        searched = {name: training[name] for name in self._space.training_names if name in training}
        point = _named_point(coordinates(pd.DataFrame([dict(row)]))[0])
        return Proposal(kind, row, point, searched, self._space.indices(searched), marks)

    def read(self, trial: FrozenTrial) -> Proposal:
        """Return the proposal that a recorded trial came from."""
        key = _row_key(trial.user_attrs, self._options)
        row = self._rows[self._positions[key]] if key in self._positions else self._others[key]
        return self.named(trial.user_attrs["kind"], row, trial.params, {})

    @cached_property
    def _positions(self) -> dict[str, int]:
        """Where every candidate stands in the table."""
        return {_row_key(row, self._options): position for position, row in enumerate(self._rows)}

    def _n_trials(self, config: SearchConfig) -> int:
        n_trials, size = config.n_trials, self.n_combinations
        if self._sampler == "grid" and not math.isfinite(size):
            endless = [name for name, found in self._space.free.items() if values_of(found) is None]
            remedy = "give them choices or a step, or choose another sampler"
            raise Fault(
                "hpo.sampler", "not be grid where the space is continuous", ", ".join(endless), remedy
            )
        if n_trials > size and not config.clip:
            rule = f"be at most {size}, the number of distinct configurations in the space"
            raise Fault("hpo.n_trials", rule, n_trials, "lower it, widen hpo.space, or set hpo.clip=true")
        if self._sampler == "grid" and n_trials < size and not config.clip:
            rule = f"be {size} under grid, which runs every configuration"
            raise Fault("hpo.n_trials", rule, n_trials, "raise it, or cut the grid with hpo.clip=true")
        return int(min(n_trials, size))

    def _proposal(self, kind: str, position: int, drawn: Mapping[str, Any]) -> Proposal:
        row, training = self._rows[position], self._space.training(self._rows[position], drawn)
        point = _named_point(self._coordinates.points[position])
        return Proposal(kind, row, point, training, self._space.indices(training))

    def _central(self, kind: str, position: int) -> Proposal:
        return self._proposal(kind, position, self._space.center(self._rows[position]))

    def _next_adaptive(self, trials: Sequence[FrozenTrial], taken: set[str]) -> Proposal | None:
        forced = self._next_extreme(trials)
        if forced is not None:
            return forced
        if self._stratum_is_open(trials):
            return self._draw("random", len(trials), taken)
        queued = next((proposal for proposal in self._queue if proposal.id not in taken), None)
        if queued is not None:
            return queued
        proposal = self._sampled(trials)
        return proposal if proposal.id not in taken else self._draw("sampler", len(trials), taken)

    def _next_extreme(self, trials: Sequence[FrozenTrial]) -> Proposal | None:
        tried = {t.user_attrs["arch_id"] for t in trials if t.user_attrs["kind"] == "extreme"}
        left = [arch_id for arch_id in self._forced if arch_id not in tried]
        return self._central("extreme", self._coordinates.arch_ids.index(left[0])) if left else None

    def _stratum_is_open(self, trials: Sequence[FrozenTrial]) -> bool:
        drawn = [t for t in trials if t.user_attrs["kind"] == "random"]
        return sum(is_counted(t) or t.state == TrialState.RUNNING for t in drawn) < self._n_random

    def _draw(self, kind: str, number: int, taken: set[str]) -> Proposal | None:
        """Draw uniformly over rows and space, without a configuration that was tried before."""
        rng = generator(self._seed, "random", number)
        for _ in range(_N_REDRAWS):
            position = int(rng.integers(len(self._rows)))
            proposal = self._proposal(kind, position, self._space.draw(self._rows[position], rng))
            if proposal.id not in taken:
                return proposal
        left = [proposal for proposal in self._combinations(kind) if proposal.id not in taken]
        return left[rng.integers(len(left))] if left else None

    def _first_left(self, taken: set[str]) -> Proposal | None:
        """Return the first configuration, in the order of the rows, that was not tried."""
        kept = (proposal for proposal in self._listed if proposal.id not in taken)
        for proposal in itertools.chain(kept, self._listed_on()):
            if proposal.id not in taken:
                return proposal
        return None

    def _listed_on(self) -> Iterator[Proposal]:
        """List further configurations, each once for all asks."""
        for proposal in self._listing:
            self._listed.append(proposal)
            yield proposal

    def _combinations(self, kind: str) -> Iterator[Proposal]:
        """Yield every configuration of a finite space."""
        if math.isfinite(self.n_combinations):
            for position, row in enumerate(self._rows):
                for drawn in self._space.combinations(row):
                    yield self._proposal(kind, position, drawn)

    def _sampled(self, trials: Sequence[FrozenTrial]) -> Proposal:
        position, found = propose(
            self._sampler, trials=trials, rows=self._coordinates, free=self._space.free, seed=self._seed
        )
        return self._proposal("sampler", position, self._space.active(self._rows[position], found))


def _named_point(point: np.ndarray) -> dict[str, float]:
    """The coordinates of the architecture, by name."""
    return dict(zip(COORDINATES, point.tolist(), strict=False))


def _row_key(values: Mapping[str, Any], options: Sequence[str]) -> str:
    """Identity of a candidate, of its row or of a trial's attributes."""
    return content_hash(values["arch_id"], {name: values.get(name) for name in options})
