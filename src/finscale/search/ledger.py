"""The study as its driver writes it: trials enter whole, collect losses and attributes, and are told once."""

import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from finscale.search.database import patiently
from finscale.search.outcomes import TrialOutcome

__all__ = ["Ledger"]


_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}


class Ledger:
    """Read and write the trials of one study.

    What a database cuts off is done again, and nothing is done twice.

    Parameters
    ----------
    study : optuna.Study
        Open, and held under a lease.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study

    def trials(self) -> list[FrozenTrial]:
        """Return every trial, by number."""
        return list(patiently(lambda: self._study.get_trials(deepcopy=False)))

    def enter(
        self,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
    ) -> None:
        """Write a RUNNING trial, whole, in one transaction."""
        number, tries = len(self.trials()), itertools.count()

        def add() -> None:
            if next(tries) == 0 or len(self.trials()) == number:
                trial = optuna.trial.create_trial(
                    state=TrialState.RUNNING,
                    params=dict(params),
                    distributions={name: distributions[name] for name in params},
                    user_attrs=dict(attributes),
                )
                self._study.add_trial(trial)

        patiently(add)

    def record(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Set attributes of a running trial."""
        trial_id, write = self._id(number), self._study._storage.set_trial_user_attr
        for name, value in attributes.items():
            patiently(functools.partial(write, trial_id, name, _json_number(value)))

    def report(self, number: int, *, epoch: int, loss: float) -> None:
        """Keep the loss of one epoch; an epoch that is repeated after a kill replaces itself."""
        trial_id = self._id(number)
        patiently(lambda: self._study._storage.set_trial_intermediate_value(trial_id, epoch, loss))

    def tell(self, number: int, outcome: TrialOutcome) -> None:
        """End a trial; a diverged one ends as FAIL, for it has no value."""
        value = outcome.value if outcome.outcome == "complete" else None
        state, tries = _STATES.get(outcome.outcome, TrialState.FAIL), itertools.count()

        def tell() -> None:
            if next(tries) == 0 or not self.trials()[number].state.is_finished():
                self._study.tell(number, value, state=state)

        patiently(tell)

    def _id(self, number: int) -> int:
        find = self._study._storage.get_trial_id_from_study_id_trial_number
        return patiently(lambda: find(self._study._study_id, number))


def _json_number(value: Any) -> Any:
    """Replace what JSON cannot hold: NaN and infinity become None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
