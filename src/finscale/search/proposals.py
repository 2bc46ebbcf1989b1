"""Which trial comes next: forced extremes, then the random stratum, then the sampler.

The answer depends only on the trials of the study, the grid, the space and the seed, never on the session,
so a search that was interrupted continues as if it had not been.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from finscale.core.errors import Fault
from finscale.core.hashing import content_hash
from finscale.core.seeding import derive, generator
from finscale.search import coordinates as coords
from finscale.search.config import SearchConfig
from finscale.search.extremes import forced_rows
from finscale.search.samplers import propose
from finscale.search.space import center, draw, n_values, values_of

__all__ = ["Proposal", "Proposer", "is_counted"]

_N_REDRAWS = 1000
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
    """One architecture with training parameters, before it becomes a trial."""

    kind: str
    row: Mapping[str, Any]
    point: tuple[float, ...]
    training: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Content hash: two proposals with one id would train the same thing."""
        return content_hash(self.row["arch_id"], dict(self.training))

    @property
    def params(self) -> dict[str, Any]:
        """What the study records as parameters: true coordinates, then training parameters."""
        return {**dict(zip(coords.COORDINATES, self.point, strict=True)), **self.training}

    @property
    def attributes(self) -> dict[str, Any]:
        """What the study records beside the parameters."""
        shown = {name: self.row[name] for name in _ROW_ATTRIBUTES if name in self.row}
        return {"kind": self.kind, "proposal_id": self.id, **shown}

    @property
    def description(self) -> dict[str, Any]:
        """Attributes and training parameters in one mapping, for whoever watches."""
        return {**self.attributes, **self.training}


def is_counted(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards ``n_trials``: complete, pruned or diverged."""
    diverged = trial.state == TrialState.FAIL and trial.user_attrs.get("outcome") == "diverged"
    return diverged or trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


class Proposer:
    """Propose trials over one grid and one space.

    Parameters
    ----------
    grid : DataFrame
        Admissible architectures of the cell.
    config : SearchConfig
        Space, sampler, sizes.
    seed : int
        Seed of the study.

    Raises
    ------
    Fault
        When a finite space holds fewer configurations than ``n_trials``.
    """

    def __init__(self, grid: pd.DataFrame, config: SearchConfig, *, seed: int) -> None:
        self._rows = [{str(k): v for k, v in row.items()} for row in grid.to_dict(orient="records")]
        self._arch_ids = [str(row["arch_id"]) for row in self._rows]
        self._points = coords.coordinates(grid)
        self._forced = forced_rows(grid)
        self._config, self._seed = config, seed
        self._space = config.space.distributions()
        self._refuse_too_small_a_space()

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Distributions of every parameter, as the study records them."""
        return {**coords.DISTRIBUTIONS, **self._space}

    def next(self, trials: Sequence[FrozenTrial]) -> Proposal | None:
        """Return the proposal for trial number ``len(trials)``; None when every configuration was tried."""
        taken = {trial.user_attrs["proposal_id"] for trial in trials}
        forced = self._next_extreme(trials)
        if forced is not None:
            return forced
        if self._config.sampler == "random" or self._stratum_is_open(trials):
            return self._draw("random", len(trials), taken)
        proposal = self._sampled(trials)
        return proposal if proposal.id not in taken else self._draw("sampler", len(trials), taken)

    def typical(self) -> Proposal:
        """Return the middle of grid and space; not a trial, but what one looks like."""
        return self._proposal("typical", len(self._rows) // 2, self._center())

    def read(self, trial: FrozenTrial) -> Proposal:
        """Return the proposal that a recorded trial came from."""
        position = self._arch_ids.index(trial.user_attrs["arch_id"])
        training = {name: trial.params[name] for name in self._space}
        return self._proposal(trial.user_attrs["kind"], position, training)

    def _refuse_too_small_a_space(self) -> None:
        size = len(self._rows) * math.prod(n_values(found) for found in self._space.values())
        if self._config.n_trials > size:
            rule = f"be at most {size}, the number of distinct configurations in the space"
            raise Fault("hpo.n_trials", rule, self._config.n_trials, "lower it, or widen hpo.space")

    def _proposal(self, kind: str, position: int, training: Mapping[str, Any]) -> Proposal:
        return Proposal(kind, self._rows[position], tuple(self._points[position].tolist()), training)

    def _next_extreme(self, trials: Sequence[FrozenTrial]) -> Proposal | None:
        tried = {t.user_attrs["arch_id"] for t in trials if t.user_attrs["kind"] == "extreme"}
        left = [arch_id for arch_id in self._forced if arch_id not in tried]
        if not left:
            return None
        return self._proposal("extreme", self._arch_ids.index(left[0]), self._center())

    def _center(self) -> dict[str, Any]:
        return {name: center(found) for name, found in self._space.items()}

    def _stratum_is_open(self, trials: Sequence[FrozenTrial]) -> bool:
        drawn = [t for t in trials if t.user_attrs["kind"] == "random"]
        return sum(is_counted(t) or t.state == TrialState.RUNNING for t in drawn) < self._config.n_random

    def _draw(self, kind: str, number: int, taken: set[str]) -> Proposal | None:
        """Draw uniformly over rows and space, without a configuration that was tried before."""
        rng = generator(self._seed, "random", number)
        for _ in range(_N_REDRAWS):
            training = {name: draw(found, rng) for name, found in self._space.items()}
            proposal = self._proposal(kind, int(rng.integers(len(self._rows))), training)
            if proposal.id not in taken:
                return proposal
        return self._draw_from_the_rest(kind, rng, taken)

    def _draw_from_the_rest(self, kind: str, rng: np.random.Generator, taken: set[str]) -> Proposal | None:
        """Draw from a finite space that is nearly exhausted, by listing what is left of it."""
        lists = [values_of(found) or () for found in self._space.values()]
        every = itertools.product(range(len(self._rows)), *lists)
        proposals = (
            self._proposal(kind, position, dict(zip(self._space, values, strict=True)))
            for position, *values in every
        )
        left = [proposal for proposal in proposals if proposal.id not in taken]
        return left[rng.integers(len(left))] if left else None

    def _sampled(self, trials: Sequence[FrozenTrial]) -> Proposal:
        number = len(trials)
        distributions = {**coords.ranges(self._points), **self._space}
        seed = derive(self._seed, "sampler", number)
        found = propose(self._config.sampler, trials=trials, distributions=distributions, seed=seed)
        position = coords.nearest_row(self._points, self._arch_ids, found)
        return self._proposal("sampler", position, {name: found[name] for name in self._space})
