"""The study as its driver writes it: trials enter whole, collect losses and attributes, and are told once."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from finscale.search.database import patiently, set_attributes
from finscale.search.outcomes import TrialOutcome

__all__ = ["Ledger"]


_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}


class Ledger:
    """Read and write the trials of one study.

    Every change is written to the study first; then the trials it changed are read back, no others: with a
    thousand trials under way, all of them would be a second's work. What a database cuts off is done again,
    and nothing is done twice.

    Parameters
    ----------
    study : optuna.Study
        Open, and held under a lease: nobody else writes while this one does.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study, self._storage = study, study._storage
        self._trials = self._read_all()

    def trials(self) -> list[FrozenTrial]:
        """Return every trial, by number."""
        return list(self._trials)

    def enter(
        self,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
    ) -> None:
        """Write a RUNNING trial, whole, in one transaction."""
        number, tries = len(self._trials), itertools.count()

        def add() -> None:
            if next(tries) == 0 or len(self._read_all()) == number:
                trial = optuna.trial.create_trial(
                    state=TrialState.RUNNING,
                    params=dict(params),
                    distributions={name: distributions[name] for name in params},
                    user_attrs=dict(attributes),
                )
                self._study.add_trial(trial)

        patiently(add)
        find = self._storage.get_trial_id_from_study_id_trial_number
        trial_id = patiently(lambda: find(self._study._study_id, number))
        self._trials.append(patiently(lambda: self._storage.get_trial(trial_id)))

    def record(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Set attributes of a running trial, all in one transaction."""
        known = {name: _json_number(value) for name, value in attributes.items()}
        patiently(lambda: set_attributes(self._storage, self._trials[number]._trial_id, known))
        self._read(number)

    def report(self, number: int, *, epoch: int, loss: float) -> None:
        """Keep the loss of one epoch; an epoch that is repeated after a kill replaces itself."""
        trial_id = self._trials[number]._trial_id
        patiently(lambda: self._storage.set_trial_intermediate_value(trial_id, epoch, loss))
        self._read(number)

    def tell(self, number: int, outcome: TrialOutcome) -> None:
        """End a trial; a diverged one ends as FAIL, for it has no value."""
        value = outcome.value if outcome.outcome == "complete" else None
        state, tries = _STATES.get(outcome.outcome, TrialState.FAIL), itertools.count()

        def tell() -> None:
            if next(tries) > 0:
                self._read(number)
            if not self._trials[number].state.is_finished():
                self._study.tell(number, value, state=state)

        patiently(tell)
        self._read(number)

    def _read(self, number: int) -> None:
        trial_id = self._trials[number]._trial_id
        self._trials[number] = patiently(lambda: self._storage.get_trial(trial_id))

    def _read_all(self) -> list[FrozenTrial]:
        return list(patiently(lambda: self._study.get_trials(deepcopy=False)))


def _json_number(value: Any) -> Any:
    """Replace what JSON cannot hold: NaN and infinity become None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
