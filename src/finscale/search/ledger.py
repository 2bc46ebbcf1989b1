"""The study as its driver writes it: trials enter whole, collect losses and attributes, and are told once."""

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from finscale.search.outcomes import TrialOutcome

__all__ = ["Ledger"]


class Ledger:
    """Read and write the trials of one study.

    Parameters
    ----------
    study : optuna.Study
        Open, and held under a lease.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study

    def trials(self) -> list[FrozenTrial]:
        """Return every trial, by number."""
        return list(self._study.get_trials(deepcopy=False))

    def enter(
        self,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attributes: Mapping[str, Any],
    ) -> None:
        """Write a RUNNING trial, whole, in one transaction."""
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions={name: distributions[name] for name in params},
            user_attrs=dict(attributes),
        )
        self._study.add_trial(trial)

    def record(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Set attributes of a running trial."""
        trial_id = self._id(number)
        for name, value in attributes.items():
            self._study._storage.set_trial_user_attr(trial_id, name, _json_number(value))

    def report(self, number: int, *, epoch: int, loss: float) -> None:
        """Keep the loss of one epoch; an epoch that is repeated after a kill replaces itself."""
        self._study._storage.set_trial_intermediate_value(self._id(number), epoch, loss)

    def tell(self, number: int, outcome: TrialOutcome) -> None:
        """End a trial; a diverged one ends as FAIL, for it has no value."""
        if outcome.outcome == "complete":
            self._study.tell(number, outcome.value)
        elif outcome.outcome == "pruned":
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, state=TrialState.FAIL)

    def _id(self, number: int) -> int:
        return self._study._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)


def _json_number(value: Any) -> Any:
    """Replace what JSON cannot hold: NaN and infinity become None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
