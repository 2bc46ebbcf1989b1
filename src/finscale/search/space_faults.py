"""What is wrong with a space, all of it at once."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from finscale.archgrid.base import FAMILIES
from finscale.core.errors import Fault, suggest
from finscale.search.dimensions import Dimension, broken_rules, choice_key
from finscale.search.space_names import (
    broken_value_rules,
    holds_whole_numbers,
    is_row_name,
    legal_names,
)
from finscale.training.config import TrainingConfig

__all__ = ["space_faults"]

Dimensions = Mapping[str, Dimension]
Groups = Sequence[Mapping[str, tuple[Any, ...]]]

_FIX = "write choices: [...], or low and high with log: true or step"
_ELSEWHERE = {"family": "the experiment's model_family says it", "head": "the task says it"}


def space_faults(
    dimensions: Dimensions, linked: Groups, *, family: str, given: Mapping[str, Any]
) -> Iterator[Fault]:
    """Yield every fault of a space; see `finscale.search.space.SearchSpace.bind`."""
    yield from _name_faults(dimensions, linked, family)
    for name, dimension in dimensions.items():
        yield from _dimension_faults(name, dimension, family)
    for group in linked:
        yield from _group_faults(group)
    yield from _condition_faults(dimensions, linked, family)
    yield from _given_faults(dimensions, linked, given)


def _name_faults(dimensions: Dimensions, linked: Groups, family: str) -> Iterator[Fault]:
    names = [*dimensions, *(name for group in linked for name in group)]
    for name, times in Counter(names).items():
        got = dimensions[name].model_dump(exclude_unset=True) if name in dimensions else "a linked list"
        if name not in legal_names(family):
            yield _unknown(name, got, family)
        if times > 1:
            rule = "be in the space once, as a dimension or in one linked group"
            yield Fault(f"hpo.space.{name}", rule, f"{times} times", f"write {name}: null to leave one out")


def _unknown(name: str, got: Any, family: str) -> Fault:
    subject = f"hpo.space.{name}"
    if name in _ELSEWHERE:
        return Fault(subject, f"be left out: {_ELSEWHERE[name]}", got, "remove it")
    readers = [other for other in FAMILIES if name in legal_names(other)]
    if readers:
        remedy = f"remove it, or choose model_family: {' or '.join(readers)}"
        return Fault(subject, f"be a setting that {family} reads", got, remedy)
    return Fault(subject, "be a known dimension", got, suggest(name, legal_names(family)))


def _dimension_faults(name: str, dimension: Dimension, family: str) -> Iterator[Fault]:
    broken = list(broken_rules(dimension, whole=holds_whole_numbers(name, family)))
    if is_row_name(name, family) and not broken and not _is_finite(name, dimension, family):
        broken.append("be finite, for the grid is expanded by it")
    broken += broken_value_rules(name, dimension.ends)
    if broken:
        got = dimension.model_dump(exclude_unset=True)
        yield Fault(f"hpo.space.{name}", " and ".join(broken), got, _FIX)


def _is_finite(name: str, dimension: Dimension, family: str) -> bool:
    return dimension.choices is not None or dimension.step is not None or holds_whole_numbers(name, family)


def _group_faults(group: Mapping[str, tuple[Any, ...]]) -> Iterator[Fault]:
    lengths = {name: len(values) for name, values in group.items()}
    subject = "hpo.space.linked"
    if len(group) < 2:
        yield Fault(subject, "tie at least two lists", dict(group), "write it as choices: [...]")
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        yield Fault(subject, "tie lists of one length", got, "give every list a value per index")
    elif 0 in lengths.values():
        yield Fault(subject, "have values", dict(group), "remove the group")
    elif len(set(_combinations(group))) < next(iter(lengths.values()), 0):
        yield Fault(subject, "list each combination once", dict(group), "remove the repetition")
    for name, values in group.items():
        broken = broken_value_rules(name, values)
        if broken:
            yield Fault(f"{subject}.{name}", " and ".join(broken), list(values))


def _combinations(group: Mapping[str, tuple[Any, ...]]) -> list[str]:
    return [choice_key(list(values)) for values in zip(*group.values(), strict=True)]


def _condition_faults(dimensions: Dimensions, linked: Groups, family: str) -> Iterator[Fault]:
    lists = {name: values for group in linked for name, values in group.items()}
    rows = {name for group in linked if any(is_row_name(n, family) for n in group) for name in group}
    rows |= {name for name in dimensions if is_row_name(name, family)}
    for name, dimension in dimensions.items():
        for other, wanted in dimension.conditions.items():
            offered = lists.get(other) or (dimensions[other].choices if other in dimensions else None)
            waits_for_a_trial = is_row_name(name, family) and other not in rows
            yield from _wait_faults(
                name, other, wanted, offered, [*dimensions, *lists], waits_for_a_trial=waits_for_a_trial
            )
    yield from _cycle_faults(dimensions)


def _wait_faults(
    name: str,
    other: str,
    wanted: Sequence[Any],
    offered: Sequence[Any] | None,
    names: Iterable[str],
    *,
    waits_for_a_trial: bool,
) -> Iterator[Fault]:
    subject = f"hpo.space.{name}.when"
    if other not in names:
        yield Fault(subject, "name another dimension of the space", other, suggest(other, names))
    elif waits_for_a_trial:
        rule = "name what a candidate row decides: rows are listed before the first trial"
        yield Fault(subject, rule, other, "wait for a setting of the model or of the windows")
    elif offered is None:
        yield Fault(subject, "name a dimension with choices", other, f"write {other} as choices: [...]")
    else:
        known = set(map(choice_key, offered))
        strange = [value for value in wanted if choice_key(value) not in known]
        if strange or not wanted:
            yield Fault(subject, f"be among {other}'s choices {list(offered)}", strange or "none")


def _cycle_faults(dimensions: Dimensions) -> Iterator[Fault]:
    graph = {name: list(dimension.conditions) for name, dimension in dimensions.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        got = " -> ".join(reversed(error.args[1]))
        yield Fault("hpo.space", "have conditions without a cycle", got, "remove one of them")


def _given_faults(dimensions: Dimensions, linked: Groups, given: Mapping[str, Any]) -> Iterator[Fault]:
    searched = {*dimensions, *(name for group in linked for name in group)}
    for name, info in TrainingConfig.model_fields.items():
        if name in searched and name in given and (info.is_required() or given[name] != info.default):
            remedy = f"remove it, or leave it out of the space with hpo.space.{name}=null"
            yield Fault(f"training.{name}", "not be searched as well", given[name], remedy)
        if info.is_required() and name not in searched and name not in given:
            remedy = "a training cannot do without it: choices: [x] fixes it"
            yield Fault(f"hpo.space.{name}", "be searched or given", "neither", remedy)
        if info.is_required() and name in dimensions and dimensions[name].conditions:
            rule = "be drawn for every trial, for a training cannot do without it"
            yield Fault(f"hpo.space.{name}", rule, {"when": dimensions[name].when}, "remove the condition")
