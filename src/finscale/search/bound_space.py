"""A space bound to a model family: who owns each dimension, and which of them are drawn together.

*Training* dimensions are drawn per trial. *Row* dimensions were resolved when the grid was expanded, so a
candidate row already has a value for each of them. A linked group with a member among the row's belongs to
the row, which carries its index; the other groups are drawn by their index. A dimension whose condition does
not hold is inactive, and absent from what is drawn.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from finscale.search.dimensions import Dimension, center, choice_key, distribution, draw, n_values, values_of

__all__ = ["BoundSpace", "LinkedGroup"]


@dataclass(frozen=True)
class LinkedGroup:
    """Lists tied by their index.

    Parameters
    ----------
    name : str
        ``linked_0`` for the first group of the space: its index's parameter, or column of the candidates.
    members : mapping
        Values by dimension; all lists are of one length.
    row_names : frozenset of str
        The members that are row dimensions.
    """

    name: str
    members: Mapping[str, tuple[Any, ...]]
    row_names: frozenset[str]

    @property
    def n(self) -> int:
        """Length of every list."""
        return len(next(iter(self.members.values())))

    def at(self, index: int) -> dict[str, Any]:
        """Return every member's value at an index."""
        return {name: values[index] for name, values in self.members.items()}


@dataclass(frozen=True)
class BoundSpace:
    """What may be drawn for a model family; built by `finscale.search.space.SearchSpace.bind`.

    Parameters
    ----------
    family : str
        The model family.
    training_dimensions, row_dimensions : mapping
        Dimensions outside of groups, each behind those that it waits for.
    linked : tuple of LinkedGroup
        Groups, by the number in their name.
    whole : frozenset of str
        Dimensions that hold whole numbers.
    """

    family: str
    training_dimensions: Mapping[str, Dimension]
    row_dimensions: Mapping[str, Dimension]
    linked: tuple[LinkedGroup, ...]
    whole: frozenset[str]

    @cached_property
    def _groups(self) -> Mapping[str, LinkedGroup]:
        return {group.name: group for group in self.linked}

    @cached_property
    def row_groups(self) -> tuple[LinkedGroup, ...]:
        """Groups whose index the candidate row carries."""
        return tuple(group for group in self.linked if group.row_names)

    @cached_property
    def training_groups(self) -> Mapping[str, LinkedGroup]:
        """Groups that are drawn per trial, by name."""
        return {name: group for name, group in self._groups.items() if not group.row_names}

    @cached_property
    def row_names(self) -> tuple[str, ...]:
        """Every row dimension, linked ones included."""
        members = (name for group in self.linked for name in group.members if name in group.row_names)
        return (*self.row_dimensions, *members)

    @cached_property
    def training_names(self) -> tuple[str, ...]:
        """Every training dimension, linked ones included."""
        members = (name for group in self.linked for name in group.members if name not in group.row_names)
        return (*self.training_dimensions, *members)

    @cached_property
    def row_values(self) -> Mapping[str, tuple[Any, ...]]:
        """Values of every row dimension outside of groups, as written."""
        return {name: self._row_values(name, found) for name, found in self.row_dimensions.items()}

    @cached_property
    def free(self) -> Mapping[str, BaseDistribution]:
        """What is drawn per trial, where active: the index of each training group, training dimensions."""
        indices = {name: IntDistribution(0, group.n - 1) for name, group in self.training_groups.items()}
        return {**indices, **{n: self._distribution(n, d) for n, d in self.training_dimensions.items()}}

    def distributions(self) -> dict[str, BaseDistribution]:
        """What a study records of a trial: all that is `free`, and the linked training dimensions."""
        lists = ((name, values) for group in self.linked for name, values in group.members.items())
        linked = {name: _categorical(values) for name, values in lists if name in self.training_names}
        return {**self.free, **linked}

    @property
    def has_conditions(self) -> bool:
        """Whether a training dimension may be absent from a trial."""
        return any(found.conditions for found in self.training_dimensions.values())

    def center(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the typical value of all that is free and active at a candidate."""
        return self._pick(row, lambda _name, found: center(found))

    def draw(self, row: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Draw all that is free and active at a candidate, each uniformly."""
        return self._pick(row, lambda _name, found: draw(found, rng))

    def active(self, row: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of a point that is free and active at a candidate."""
        return self._pick(row, lambda name, _found: point[name])

    def training(self, row: Mapping[str, Any], drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return the training parameters that a candidate and what was drawn for it stand for."""
        known = {**self.known(row), **_joined(self._meaning(name, value) for name, value in drawn.items())}
        return {name: known[name] for name in self.training_names if name in known}

    def indices(self, training: Mapping[str, Any]) -> dict[str, int]:
        """Return the index of every training group of which training parameters hold a combination."""
        found = ((group, _index(group, training)) for group in self.training_groups.values())
        return {group.name: index for group, index in found if index is not None}

    def n_combinations(self, row: Mapping[str, Any]) -> float:
        """Count what may be drawn at a candidate; infinity where a dimension is continuous."""
        parents = [name for name in self.free if self._is_waited_for(name)]
        others = [name for name in self.free if name not in parents]
        return sum(
            math.prod(n_values(self.free[name]) for name in others if self.is_active(name, known))
            for _, known in self._settings(parents, {}, self.known(row))
        )

    def combinations(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield everything that may be drawn at a candidate, where all that is free is finite."""
        for drawn, _ in self._settings(list(self.free), {}, self.known(row)):
            yield drawn

    def row_combinations(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of row dimensions: values of the active ones, and the groups' indices."""
        names = [*(group.name for group in self.row_groups), *self.row_dimensions]
        for chosen, _ in self._settings(names, {}, {}):
            yield chosen

    def known(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of every dimension that a candidate decides; inactive ones are absent."""
        known = _joined(group.at(int(row[group.name])) for group in self.row_groups)
        for name in self.row_dimensions:
            if self.is_active(name, known):
                known[name] = row[name]
        return known

    def is_active(self, name: str, known: Mapping[str, Any]) -> bool:
        """Whether a dimension's conditions hold where the dimensions in ``known`` have those values."""
        dimension = self.training_dimensions.get(name) or self.row_dimensions.get(name)
        conditions = dimension.conditions if dimension else {}
        return all(
            other in known and any(_is_meant(value, known[other]) for value in values)
            for other, values in conditions.items()
        )

    def _distribution(self, name: str, dimension: Dimension) -> BaseDistribution:
        return distribution(dimension, whole=name in self.whole)

    def _row_values(self, name: str, dimension: Dimension) -> tuple[Any, ...]:
        if dimension.choices is not None:
            return dimension.choices
        values = values_of(self._distribution(name, dimension))
        assert values is not None
        return values

    def _pick(self, row: Mapping[str, Any], choose: Callable[[str, BaseDistribution], Any]) -> dict[str, Any]:
        drawn, known = {}, self.known(row)
        for name, found in self.free.items():
            if self.is_active(name, known):
                drawn[name] = choose(name, found)
                known.update(self._meaning(name, drawn[name]))
        return drawn

    def _meaning(self, name: str, value: Any) -> dict[str, Any]:
        """The dimensions that one drawn value decides: itself, or every member of its group."""
        return self._groups[name].at(value) if name in self._groups else {name: value}

    def _is_waited_for(self, name: str) -> bool:
        members = self._groups[name].members if name in self._groups else (name,)
        waiting = (found.conditions for found in self.training_dimensions.values())
        return any(member in conditions for conditions in waiting for member in members)

    def _settings(
        self, names: Sequence[str], chosen: dict[str, Any], known: dict[str, Any]
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield every combination of finite dimensions and groups, and all that is then known."""
        if not names:
            yield chosen, known
            return
        name, *rest = names
        if not self.is_active(name, known):
            yield from self._settings(rest, chosen, known)
            return
        for value in self._values(name):
            now_known = {**known, **self._meaning(name, value)}
            yield from self._settings(rest, {**chosen, name: value}, now_known)

    def _values(self, name: str) -> Sequence[Any]:
        if name in self._groups:
            return range(self._groups[name].n)
        return self.row_values[name] if name in self.row_dimensions else values_of(self.free[name]) or ()


def _is_meant(wanted: Any, value: Any) -> bool:
    """Whether a value is the wanted one; a word means every setting of its kind, a part all that have it."""
    if isinstance(value, Mapping):
        part = {"kind": wanted} if isinstance(wanted, str) else wanted
        return isinstance(part, Mapping) and all(
            name in value and _is_meant(each, value[name]) for name, each in part.items()
        )
    return choice_key(wanted) == choice_key(value)


def _index(group: LinkedGroup, training: Mapping[str, Any]) -> int | None:
    settings = enumerate(map(group.at, range(group.n)))
    return next((k for k, setting in settings if all(training.get(n) == v for n, v in setting.items())), None)


def _joined(parts: Iterator[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def _categorical(values: Sequence[Any]) -> CategoricalDistribution:
    return CategoricalDistribution(tuple(dict.fromkeys(values)))
