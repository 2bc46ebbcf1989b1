"""A space as it stands before the first trial: who owns what, every candidate, no faulty training."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from pydantic import ValidationError

from finscale.core.config import faults_of
from finscale.core.errors import Fault, raise_faults
from finscale.search.bound_space import BoundSpace, LinkedGroup
from finscale.search.candidates import Candidates, expand
from finscale.search.dimensions import Dimension, center, choice_key
from finscale.search.space import SearchSpace
from finscale.training.config import TrainingConfig
from finscale.windows.experiment import ExperimentConfig

__all__ = ["Settled", "settle"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Settled:
    """The space, bound to the model family, and the candidates of the cell."""

    space: BoundSpace
    candidates: Candidates


def settle(
    space: SearchSpace,
    *,
    experiment: ExperimentConfig,
    grid: pd.DataFrame,
    features: tuple[str, ...],
    tolerance: float,
    training_defaults: Mapping[str, Any],
) -> Settled:
    """Bind a space, expand the grid by it, and build the trainings that it can ask for.

    Parameters
    ----------
    grid, features, tolerance
        See `finscale.search.candidates.expand`.
    training_defaults : mapping
        Fields of `TrainingConfig` that are not searched.

    Raises
    ------
    FinscaleError
        With every fault of the space at once; or, of a sound space, with every fault of what it asks of the
        windows; or with every fault of the trainings.
    """
    bound = space.bind(experiment.model_family, given=training_defaults)
    candidates = expand(grid, bound, experiment=experiment, features=features, tolerance=tolerance)
    rows = [{str(k): v for k, v in row.items()} for row in candidates.table.to_dict("records")]
    raise_faults(_training_faults(bound, rows, training_defaults))
    return Settled(bound, candidates)


def _training_faults(space: BoundSpace, rows: Sequence[Row], defaults: Mapping[str, Any]) -> list[Fault]:
    """Return what no training accepts, each once: every two dimensions with every two of their values.

    A fault of a training is one of a setting, or of two that do not go together.
    """
    found: dict[str, Fault] = {}
    for training in _trainings(space, rows):
        values = {name: value for name, value in training.items() if name in TrainingConfig.model_fields}
        try:
            TrainingConfig.model_validate({**defaults, **values})
        except ValidationError as error:
            found.update((str(fault), fault) for fault in faults_of(error, TrainingConfig, "training"))
    return list(found.values())


def _trainings(space: BoundSpace, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield trainings in which every two dimensions take all their values, the others their typical one."""
    pairs: list[Sequence[str]] = list(itertools.combinations(space.free, 2)) or [list(space.free)]
    for pair in pairs:
        narrowed = _narrowed(space, _with_parents(space, pair))
        for row in _unlike_rows(space, rows):
            for drawn in narrowed.combinations(row):
                yield narrowed.training(row, drawn)


def _unlike_rows(space: BoundSpace, rows: Sequence[Row]) -> list[Row]:
    """Return one row of each sort that makes a difference to what is drawn for it."""
    waited_for = {name for found in space.training_dimensions.values() for name in found.conditions}
    groups = [group.name for group in space.row_groups]
    unlike: dict[str, Row] = {}
    for row in rows:
        known = space.known(row)
        told = [known.get(name) for name in sorted(waited_for)] + [int(row[name]) for name in groups]
        unlike.setdefault(choice_key(told), row)
    return list(unlike.values())


def _with_parents(space: BoundSpace, names: Sequence[str]) -> set[str]:
    """Return ``names`` and all that they wait for, directly or not."""
    group_of = {member: name for name, group in space.training_groups.items() for member in group.members}
    found, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        dimension = space.training_dimensions.get(name)
        parents = {group_of.get(other, other) for other in (dimension.conditions if dimension else ())}
        waiting += sorted(parents - found)
    return found


def _narrowed(space: BoundSpace, whole: set[str]) -> BoundSpace:
    """Return the space with one typical value of every dimension that is not ``whole``."""
    dimensions = {
        name: _listed(space, name, found, whole) for name, found in space.training_dimensions.items()
    }
    groups = [group if group.row_names or group.name in whole else _first(group) for group in space.linked]
    return replace(space, training_dimensions=dimensions, linked=tuple(groups))


def _listed(space: BoundSpace, name: str, dimension: Dimension, whole: set[str]) -> Dimension:
    """Return a dimension as a list: its choices or the ends of its range, else its typical value."""
    if name not in whole:
        typical = center(space.free[name])
        return Dimension(choices=(typical,), when=dimension.when)
    return Dimension(choices=tuple(dict.fromkeys(dimension.ends)), when=dimension.when)


def _first(group: LinkedGroup) -> LinkedGroup:
    return replace(group, members={name: values[:1] for name, values in group.members.items()})
