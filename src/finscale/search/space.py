"""The space of a search: bare names of settings, each with what may be drawn for it.

A name belongs to the training (a field of `TrainingConfig`, and ``dropout``) or to the row (any other field
of the model family, ``context_length`` and ``features``). `SearchSpace.bind` decides which, and refuses what
the family and its training would not read.
"""

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Any, TypeGuard

from pydantic import ConfigDict, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.search.bound_space import BoundSpace, LinkedGroup
from finscale.search.dimensions import Dimension, recordable
from finscale.search.space_faults import space_faults
from finscale.search.space_names import accepted, coerced, holds_whole_numbers, is_row_name, training_order

__all__ = ["PUBLISHED_SPACE", "Dimension", "SearchSpace", "read_former_space"]

PUBLISHED_SPACE: Mapping[str, Dimension] = {
    "learning_rate": Dimension(low=1e-4, high=1e-3, log=True),
    "epochs": Dimension(choices=(50, 75, 100)),
    "weight_decay": Dimension(low=1e-4, high=5e-3, log=True),
    "warmup_steps": Dimension(choices=(100, 200, 300, 500)),
    "dropout": Dimension(low=0.1, high=0.3),
}
"""The dimensions that a space has unless it says otherwise, or ``null``."""

_FORMER_ENDS = {"min": "low", "max": "high"}
_LOG_BY_CUSTOM = ("learning_rate", "weight_decay")
_FORMER_NAMES = {"lr": "learning_rate", "batch_size": "effective_batch_size", "warmup": "warmup_steps"}


class SearchSpace(Record):
    """What is searched: dimensions by name, and lists tied by their index.

    Parameters
    ----------
    <name> : Dimension or None
        A setting of training, model or windows, by its bare name. Left out, the published ones stand:
        learning_rate, epochs, weight_decay, warmup_steps and dropout; null leaves one of them out.
    linked : tuple of dict
        Groups: by name lists of one length, whose k-th values go together.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Dimension | None]

    linked: tuple[dict[str, tuple[Any, ...]], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Read former names, and add the published dimensions that are not spoken of."""
        if not isinstance(values, Mapping):
            return values
        named = _with_present_names(values)
        spoken_of = {*named, *(name for group in _groups(named) for name in group)}
        return {**{n: found for n, found in PUBLISHED_SPACE.items() if n not in spoken_of}, **named}

    @property
    def dimensions(self) -> dict[str, Dimension]:
        """Every dimension outside of groups."""
        return {name: found for name, found in (self.model_extra or {}).items() if found is not None}

    def bind(self, family: str, *, given: Mapping[str, Any] | None = None) -> BoundSpace:
        """Say who owns each dimension.

        Parameters
        ----------
        family : str
            The model family; one that has a grid.
        given : mapping, optional
            Fields of `TrainingConfig` that every trial shares.

        Raises
        ------
        FinscaleError
            With every fault at once: unknown dimensions, those that the family or the training would not
            read, empty and inverted ranges, unequal lists, conditions that cannot hold, settings that are
            both searched and given, or neither.
        """
        dimensions = self.dimensions
        raise_faults(space_faults(dimensions, self.linked, family=family, given=given or {}))
        sound = {name: coerced(name, found) for name, found in dimensions.items()}
        ordered = {name: sound[name] for name in _parents_first(sound)}
        groups = (_group(f"linked_{k}", lists, family) for k, lists in enumerate(self.linked))
        return BoundSpace(
            family=family,
            training_dimensions={n: found for n, found in ordered.items() if not is_row_name(n, family)},
            row_dimensions={n: found for n, found in ordered.items() if is_row_name(n, family)},
            linked=tuple(groups),
            whole=frozenset(name for name in ordered if holds_whole_numbers(name, family)),
        )


def read_former_space(values: Any) -> Any:
    """Read a ``search_space``: pairs ``[low, high]``, or dimensions with ``min`` and ``max``.

    Learning rate and weight decay are drawn log-uniformly there, unless they say otherwise.

    Examples
    --------
    >>> read_former_space({"lr": [1e-5, 1e-2], "batch_size": {"min": 32, "max": 256}})["learning_rate"]
    {'low': 1e-05, 'high': 0.01, 'log': True}
    """
    if not isinstance(values, Mapping):
        return values
    present = _with_present_names(values)
    return {
        name: value if name == "linked" else _former_range(name, value) for name, value in present.items()
    }


def _former_range(name: str, value: Any) -> Any:
    if _is_list(value) and len(value) == 2:
        value = {"low": value[0], "high": value[1]}
    if not isinstance(value, Mapping):
        return value
    read = {_FORMER_ENDS.get(key, key): end for key, end in value.items()}
    by_custom = name in _LOG_BY_CUSTOM and "low" in read and not {"log", "step"} & set(read)
    return {**read, "log": True} if by_custom else read


def _groups(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The linked groups of a space that is not validated yet."""
    linked = values.get("linked")
    return (group for group in (linked if _is_list(linked) else ()) if isinstance(group, Mapping))


def _is_list(value: Any) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(value, list | tuple)


def _with_present_names(values: Mapping[str, Any]) -> dict[str, Any]:
    both = [(old, new) for old, new in _FORMER_NAMES.items() if old in values and new in values]
    raise_faults(
        Fault(f"hpo.space.{old}", f"be left out beside {new}, its present name", values[old], "remove it")
        for old, new in both
    )
    return {_FORMER_NAMES.get(name, name): value for name, value in values.items()}


def _parents_first(dimensions: Mapping[str, Dimension]) -> list[str]:
    """Order dimensions: each behind those that it waits for, otherwise as the configs list them."""
    names = sorted(dimensions, key=training_order)
    graph = {name: [other for other in dimensions[name].conditions if other in dimensions] for name in names}
    return list(TopologicalSorter(graph).static_order())


def _group(name: str, lists: Mapping[str, tuple[Any, ...]], family: str) -> LinkedGroup:
    rows = frozenset(member for member in lists if is_row_name(member, family))
    accept = {member: accepted(member, values) for member, values in lists.items()}
    members = {m: values if m in rows else tuple(map(recordable, values)) for m, values in accept.items()}
    return LinkedGroup(name, members, rows)
