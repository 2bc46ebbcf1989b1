"""Adaptive samplers: from the trials so far, propose the next point.

The sampler never sees the study itself. It asks a shadow study in memory, rebuilt before every ask with
``seed = f(study seed, trial number)``: a resumed search continues exactly as an uninterrupted one. In the
shadow every dimension is ordinal, the architecture spans only what the grid holds, and a trial that finished
without a value (diverged, failed) stands with the worst value seen, so that it is not proposed again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.trial import FrozenTrial, TrialState

from finscale.search.space import values_of
from finscale.search.verbosity import quiet_optuna

__all__ = ["SAMPLERS", "propose"]

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False),
}
"""Builders of adaptive samplers, by the name in ``hpo.sampler``."""


def propose(
    sampler: str,
    *,
    trials: Sequence[FrozenTrial],
    distributions: Mapping[str, BaseDistribution],
    seed: int,
) -> dict[str, Any]:
    """Return the next point.

    Parameters
    ----------
    sampler : str
        A key of `SAMPLERS`.
    trials : sequence of FrozenTrial
        All trials of the study; running ones count as pending.
    distributions : mapping
        Where to look, by parameter name; values outside are kept only as far as they reach.
    seed : int
        Of this one proposal.
    """
    shadow_distributions = {name: _ordinal(found) for name, found in distributions.items()}
    with quiet_optuna():
        shadow = optuna.create_study(sampler=SAMPLERS[sampler](seed % 2**32))
        shadow.add_trials(_shadows(trials, distributions, shadow_distributions))
        point = shadow.ask(shadow_distributions).params
    return {name: _decode(distributions[name], value) for name, value in point.items()}


def _ordinal(distribution: BaseDistribution) -> BaseDistribution:
    """Replace choices by their rank: 100 is nearer to 75 than to 50."""
    if isinstance(distribution, CategoricalDistribution):
        return IntDistribution(0, len(distribution.choices) - 1)
    return distribution


def _encode(distribution: BaseDistribution, value: Any) -> Any:
    if not isinstance(distribution, CategoricalDistribution):
        return value
    values = values_of(distribution)
    assert values is not None
    return values.index(value)


def _decode(distribution: BaseDistribution, value: Any) -> Any:
    if not isinstance(distribution, CategoricalDistribution):
        return value
    values = values_of(distribution)
    assert values is not None
    return values[value]


def _shadows(
    trials: Sequence[FrozenTrial],
    distributions: Mapping[str, BaseDistribution],
    shadow_distributions: Mapping[str, BaseDistribution],
) -> list[FrozenTrial]:
    completed = [trial.value for trial in trials if trial.state == TrialState.COMPLETE]
    worst = max(completed, default=None)
    return [
        optuna.trial.create_trial(
            params={name: _encode(distributions[name], trial.params[name]) for name in distributions},
            distributions=dict(shadow_distributions),
            state=TrialState.RUNNING if trial.state == TrialState.RUNNING else TrialState.COMPLETE,
            value=None if trial.state == TrialState.RUNNING else _value(trial, worst),
        )
        for trial in trials
        if trial.state == TrialState.RUNNING or worst is not None
    ]


def _value(trial: FrozenTrial, worst: float | None) -> float | None:
    return trial.value if trial.state == TrialState.COMPLETE else worst
