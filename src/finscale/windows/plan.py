"""Which sessions train, select, score and test: by shares, by dates, or block by block.

A boundary is the rank of a session among the sorted sessions of the whole table, so that no session is
cut and the instruments of a panel share it. s number of sessions, s0 those that only ever train.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from finscale.windows.experiment import SplitConfig, WalkForward

__all__ = ["SplitPlan", "n_folds", "plan_faults", "plan_splits"]


@dataclass(frozen=True)
class SplitPlan:
    """Ranks of the sessions at which the parts of one fold begin.

    Attributes
    ----------
    train, validation, score, test : int
        First session of train, val_select, val_score and test; each part ends where the next begins.
    end : int
        First session after test.
    embargoed : tuple of int
        First sessions after the test blocks of earlier folds, where they lie among the training ones.
    """

    train: int
    validation: int
    score: int
    test: int
    end: int
    embargoed: tuple[int, ...] = ()

    @property
    def boundaries(self) -> tuple[int, int, int, int, int]:
        """Where train, val_select, val_score, test and what follows begin."""
        return self.train, self.validation, self.score, self.test, self.end


def n_folds(split: SplitConfig) -> int:
    """Return how many pairs of training and evaluation a division has: 1 without ``walk_forward``."""
    return 1 if split.walk_forward is None else split.walk_forward.n_folds


def plan_splits(sessions: NDArray[np.datetime64], split: SplitConfig) -> tuple[SplitPlan, ...]:
    """Return the plan of each fold over sorted unique sessions (s,)."""
    if split.walk_forward is not None:
        return _walk_forward(len(sessions), split.walk_forward, split.val_select_fraction)
    if split.dates is not None:
        days = np.array(split.dates, dtype="datetime64[ns]")
        validation, test, *end = np.searchsorted(sessions, days).tolist()
        return (_plan(0, (validation, test, *(end or [len(sessions)])), split.val_select_fraction),)
    train, held, _ = split.fractions
    validation, test = round(len(sessions) * train), round(len(sessions) * (train + held))
    return (_plan(0, (validation, test, len(sessions)), split.val_select_fraction),)


def _plan(
    train: int, edges: Sequence[int], val_select_fraction: float, *, embargoed: tuple[int, ...] = ()
) -> SplitPlan:
    validation, test, end = edges
    score = validation + round((test - validation) * val_select_fraction)
    return SplitPlan(train, validation, score, test, end, embargoed)


def _walk_forward(n: int, config: WalkForward, val_select_fraction: float) -> tuple[SplitPlan, ...]:
    """Fold k trains before block k, validates on block k and tests on block k + 1."""
    first, n_blocks = round(n * config.initial_train), config.n_folds + 1
    edges = [first + round((n - first) * j / n_blocks) for j in range(n_blocks + 1)]
    return tuple(
        _plan(
            edges[k] - first if config.scheme == "rolling" else 0,
            edges[k : k + 3],
            val_select_fraction,
            embargoed=tuple(edges[2:k]),
        )
        for k in range(config.n_folds)
    )


def plan_faults(plans: Sequence[SplitPlan], split: SplitConfig, *, n_sessions: int) -> list[str]:
    """Return what is wrong with the plans of all folds, by what a plan must be, not how it is made."""
    found = [f"fold {k} is out of order: {p}" for k, p in enumerate(plans) if _disordered(p, n_sessions)]
    config = split.walk_forward
    if config is None:
        return found
    only_train = round(n_sessions * config.initial_train)
    if len(plans) != config.n_folds or plans[0].validation != only_train or plans[-1].end != n_sessions:
        found.append(f"{len(plans)} folds do not fill the sessions from {only_train} to {n_sessions}")
    for k, plan in enumerate(plans):
        lengths = {plan.test - plan.validation, plan.end - plan.test}
        if max(lengths) - min(lengths) > 1:
            found.append(f"fold {k} has blocks of {lengths} sessions")
        begin = 0 if config.scheme == "expanding" else plan.validation - only_train
        if plan.train != begin:
            found.append(f"fold {k} trains from session {plan.train}, not {begin}")
        if k and (plan.validation, plan.test) != (plans[k - 1].test, plans[k - 1].end):
            found.append(f"fold {k} does not begin where fold {k - 1} tested")
        ends = tuple(earlier.end for earlier in plans[:k] if earlier.end < plan.validation)
        if plan.embargoed != ends:
            found.append(f"fold {k} embargoes after sessions {plan.embargoed}, not {ends}")
    return found


def _disordered(plan: SplitPlan, n_sessions: int) -> bool:
    bounds = (*plan.boundaries, n_sessions)
    return any(a > b for a, b in pairwise(bounds))
