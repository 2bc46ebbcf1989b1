"""Which trial is worth no more epochs: three rules over the losses that trials reported.

A trial is compared with trials of the same schedule length alone, for at epoch 10 a cosine of 50 epochs
stands elsewhere than one of 100; and by its lowest loss so far, for the search minimises the best epoch's.
Corners, random draws and whatever a user or a smaller budget asked for are rivals and never pruned: the
analysis needs their losses. The rules are our own because Optuna's compare every trial of a study alike.

Sources: Golovin et al. 2017 (median), Li et al. 2020 (ASHA, as one that stops), Li et al. 2018 (Hyperband).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

from optuna.trial import FrozenTrial, TrialState

from finscale.core.seeding import derive

__all__ = ["PRUNABLE", "Pruner", "PrunerName"]

PrunerName = Literal["none", "median", "asha", "hyperband"]

PRUNABLE: Final = frozenset({"sampler", "grid"})
"""Kinds of trial that may be pruned."""

_N_FOR_A_MEDIAN = 5
"""Complete rivals without which the median says nothing; Optuna's figure."""


@dataclass(frozen=True)
class _Curve:
    """The losses of a trial by epoch; ``n_epochs`` is the length of its schedule."""

    number: int
    n_epochs: int
    losses: Mapping[int, float]
    is_complete: bool
    is_prunable: bool

    def reached(self, epoch: int) -> bool:
        """A trial that ended early by itself stands at every later epoch with what it has."""
        return self.is_complete or max(self.losses) >= epoch

    def best(self, epoch: int) -> float:
        return min(loss for at, loss in self.losses.items() if at <= epoch)


@dataclass(frozen=True)
class Pruner:
    """Judge running trials by one rule.

    Parameters
    ----------
    rule : str
        ``median``: behind the median of the complete rivals at the same epoch (of five at least).
        ``asha``: at the rungs min_epochs * reduction**k, not among the best 1/reduction of those that reached
        the rung so far (of ``reduction`` at least).
        ``hyperband``: the same, with the trials dealt out over brackets that start at later and later rungs,
        in the paper's proportions; trials that are never pruned are rivals in every bracket.
    min_epochs : int
        No trial is judged earlier.
    reduction : int
        Of ``asha`` and ``hyperband``.
    """

    rule: PrunerName
    min_epochs: int
    reduction: int

    def is_hopeless(
        self, trials: Sequence[FrozenTrial], number: int, *, epoch: int, rivals_below: float
    ) -> bool:
        """Return whether trial ``number`` should end at ``epoch``, which it has just reported.

        Parameters
        ----------
        trials : sequence of FrozenTrial
            Of the study, by number; ``intermediate_values`` are losses by epoch, the attribute ``epochs`` the
            length of the schedule.
        rivals_below : float
            Only trials with lower numbers are rivals.
        """
        found = _curve(trials[number])
        if not found.is_prunable or not self.min_epochs <= epoch < found.n_epochs:
            return False
        reported = [
            trial for trial in trials[: int(min(rivals_below, len(trials)))] if trial.intermediate_values
        ]
        others = (_curve(trial) for trial in reported if trial.number != number)
        rivals = [other for other in others if other.n_epochs == found.n_epochs]
        return _RULES[self.rule](self, found, epoch, rivals)


def _curve(trial: FrozenTrial) -> _Curve:
    return _Curve(
        number=trial.number,
        n_epochs=trial.user_attrs["epochs"],
        losses=trial.intermediate_values,
        is_complete=trial.state == TrialState.COMPLETE,
        is_prunable=trial.user_attrs["kind"] in PRUNABLE,
    )


def _never(pruner: Pruner, trial: _Curve, epoch: int, rivals: Sequence[_Curve]) -> bool:
    return False


def _behind_the_median(pruner: Pruner, trial: _Curve, epoch: int, rivals: Sequence[_Curve]) -> bool:
    complete = [rival.best(epoch) for rival in rivals if rival.is_complete]
    return len(complete) >= _N_FOR_A_MEDIAN and trial.best(epoch) > median(complete)


def _behind_at_a_rung(
    pruner: Pruner, trial: _Curve, epoch: int, rivals: Sequence[_Curve], first: int = 0
) -> bool:
    if epoch not in itertools.islice(_rungs(pruner, trial.n_epochs), first, None):
        return False
    losses = [rival.best(epoch) for rival in rivals if rival.reached(epoch)]
    n_better, n_kept = sum(loss < trial.best(epoch) for loss in losses), (len(losses) + 1) // pruner.reduction
    return n_kept > 0 and n_better >= n_kept


def _behind_in_its_bracket(pruner: Pruner, trial: _Curve, epoch: int, rivals: Sequence[_Curve]) -> bool:
    bracket = _bracket(pruner, trial)
    peers = [rival for rival in rivals if not rival.is_prunable or _bracket(pruner, rival) == bracket]
    return _behind_at_a_rung(pruner, trial, epoch, peers, first=bracket)


def _rungs(pruner: Pruner, n_epochs: int) -> Iterator[int]:
    powers = (pruner.min_epochs * pruner.reduction**k for k in itertools.count())
    return itertools.takewhile(lambda epoch: epoch <= n_epochs, powers)


def _bracket(pruner: Pruner, trial: _Curve) -> int:
    """Deal a trial out by its number; bracket b starts at rung b."""
    n = len(list(_rungs(pruner, trial.n_epochs)))
    sizes = [math.ceil(n * pruner.reduction ** (n - 1 - b) / (n - b)) for b in range(n)]
    place = derive(trial.number, "bracket") % sum(sizes)
    return next(b for b, end in enumerate(itertools.accumulate(sizes)) if place < end)


_RULES: Final[dict[PrunerName, Callable[[Pruner, _Curve, int, Sequence[_Curve]], bool]]] = {
    "none": _never,
    "median": _behind_the_median,
    "asha": _behind_at_a_rung,
    "hyperband": _behind_in_its_bracket,
}
