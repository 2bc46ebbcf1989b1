"""Adaptive samplers: from the trials so far, propose a candidate with training values.

A sampler never sees the study itself. It is built anew for every ask, from the trials and a seed derived
from their number: a resumed search continues exactly as an uninterrupted one. It sees points of a unit cube,
and real candidates alone. A trial that finished without a value (diverged, failed) stands with the worst
value seen, so that it is not proposed again; one that runs counts as pending.

``gp``   expected improvement under a Gaussian process; pruned trials are unknown to it
``tpe``  Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), multivariate; reads pruned trials
``qmc``  a scrambled Sobol sequence over candidates and training dimensions; learns nothing
"""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import qmc

from finscale.core.seeding import derive, generator
from finscale.search.acquisition import most_promising
from finscale.search.coordinates import Coordinates
from finscale.search.dimensions import are_numbers
from finscale.search.gaussian_process import fit
from finscale.search.unit_cube import UnitCube, Units
from finscale.search.verbosity import quiet_optuna

__all__ = ["SAMPLERS", "propose"]

_SOBOL_LENGTH = 2**20


def propose(
    sampler: str,
    *,
    trials: Sequence[FrozenTrial],
    rows: Coordinates,
    free: Mapping[str, BaseDistribution],
    seed: int,
) -> tuple[int, dict[str, Any]]:
    """Return the position of the next candidate, and a value for all that is drawn per trial.

    Parameters
    ----------
    sampler : str
        A key of `SAMPLERS`.
    trials : sequence of FrozenTrial
        All trials of the study.
    rows : Coordinates
        Of the candidates.
    free : mapping
        Distributions of what is drawn per trial; values outside are kept only as far as they reach, and what
        a trial did not draw counts as the centre.
    seed : int
        Of the study.
    """
    return SAMPLERS[sampler](UnitCube(rows, free), trials, seed)


def _by_gaussian_process(
    cube: UnitCube, trials: Sequence[FrozenTrial], seed: int
) -> tuple[int, dict[str, Any]]:
    values = _values(trials)
    if not values:
        return _by_sequence(cube, trials, seed)
    known = np.array([cube.encode(trials[number]) for number in values])
    pending = [cube.encode(trial) for trial in trials if trial.state == TrialState.RUNNING]
    process = fit(known, np.array(list(values.values())))
    believing = process.believing(np.reshape(pending, (len(pending), known.shape[1])))
    rng = generator(seed, "sampler", len(trials))
    return cube.decode(most_promising(believing, cube, rng=rng))


def _by_tpe(cube: UnitCube, trials: Sequence[FrozenTrial], seed: int) -> tuple[int, dict[str, Any]]:
    distributions = _shadow_distributions(cube)
    values = _values(trials)
    shadows = [
        _shadow(number, trial, cube.encode(trial), distributions, values.get(number))
        for number, trial in enumerate(trials)
    ]
    sampler = _tpe(derive(seed, "sampler", len(trials)) % 2**32)
    with quiet_optuna():
        found = optuna.create_study(storage=_Shown(shadows), sampler=sampler).ask(distributions).params
    return cube.decode(_point(found, distributions))


def _by_sequence(cube: UnitCube, trials: Sequence[FrozenTrial], seed: int) -> tuple[int, dict[str, Any]]:
    engine = qmc.Sobol(1 + len(cube.free), rng=generator(seed, "sequence"))
    if trials:
        engine.fast_forward(len(trials) % _SOBOL_LENGTH)
    row, *free = engine.random(1)[0]
    rows = cube.row_points
    return cube.decode(np.array([*rows[int(row * len(rows))], *free]))


SAMPLERS: dict[str, Callable[[UnitCube, Sequence[FrozenTrial], int], tuple[int, dict[str, Any]]]] = {
    "gp": _by_gaussian_process,
    "tpe": _by_tpe,
    "qmc": _by_sequence,
}
"""What asks for the next point, by the name in ``hpo.sampler``."""


def _values(trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """Return what is known of finished trials, by position; nothing while none is complete."""
    complete = [trial.value for trial in trials if trial.state == TrialState.COMPLETE]
    told = (TrialState.COMPLETE, TrialState.FAIL)
    worst = max(complete, default=0.0)
    return {
        number: trial.value if trial.state == TrialState.COMPLETE else worst
        for number, trial in enumerate(trials)
        if complete and trial.state in told
    }


def _tpe(seed: int) -> TPESampler:
    return TPESampler(seed=seed, n_startup_trials=1, multivariate=True)


class _Shown(InMemoryStorage):
    """Shows the trials that it was given; adding them to a study would copy each of them, deeply."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        super().__init__()
        self._shown = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._shown if states is None or trial.state in states]


def _shadow_distributions(cube: UnitCube) -> dict[str, BaseDistribution]:
    """Return the cube's dimensions for Optuna: words as categories, all else as numbers in 0..1."""
    rows = [f"row_{k}" for k in range(cube.n_row_dimensions)]
    return {
        **{name: FloatDistribution(0.0, 1.0) for name in rows},
        **{name: _shadow_distribution(found, k, cube) for k, (name, found) in enumerate(cube.free.items())},
    }


def _shadow_distribution(found: BaseDistribution, k: int, cube: UnitCube) -> BaseDistribution:
    levels = cube.levels[k]
    if isinstance(found, CategoricalDistribution) and not are_numbers(found.choices):
        assert levels is not None
        return CategoricalDistribution(levels.tolist())
    return FloatDistribution(0.0, 1.0)


def _shadow(
    number: int,
    trial: FrozenTrial,
    point: Units,
    distributions: Mapping[str, BaseDistribution],
    value: float | None,
) -> FrozenTrial:
    # built as it is: `create_trial` would check and convert every distribution of every trial, at every ask
    return FrozenTrial(
        # the trial that is asked for is number 0 of the storage, and TPE leaves its number out
        number=number + 1,
        trial_id=number + 1,
        state=TrialState.COMPLETE if value is not None else trial.state,
        value=value,
        params=dict(zip(distributions, np.clip(point, 0, 1).tolist(), strict=True)),
        distributions=dict(distributions),
        intermediate_values=trial.intermediate_values,
        datetime_start=None,
        datetime_complete=None,
        user_attrs={},
        system_attrs={},
    )


def _point(found: Mapping[str, float], distributions: Mapping[str, BaseDistribution]) -> Units:
    return np.array([found[name] for name in distributions])
