"""One dimension of a search, as a user writes it and as a sampler draws from it.

Written as ``choices`` or as ``low``/``high`` with ``log`` or ``step``; at run time it is an Optuna
distribution, so that architecture coordinates and training parameters speak one language.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from finscale.core.config import Record

__all__ = ["Dimension", "are_numbers", "broken_rules", "center", "choice_key", "distribution", "draw"]
__all__ += ["holds", "n_values", "recordable", "values_of"]


class Dimension(Record):
    """What may be drawn: ``choices``, or a range with ``log`` or ``step``.

    Parameters
    ----------
    choices : tuple or None
        Numbers, words, booleans, null, and lists where the setting is a list.
    low, high : float or None
        Ends of a range, inclusive; whole numbers where the setting is one.
    log : bool
        Whether every octave of the range is as likely as another.
    step : float or None
        Distance between two values of the range.
    when : dict or None
        Of other dimensions: the value, or the list of values, under which this one is drawn at all.
    """

    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    when: dict[str, Any] | None = None

    @property
    def ends(self) -> tuple[Any, ...]:
        """Every choice, or low and high where given."""
        if self.choices is not None:
            return self.choices
        return tuple(end for end in (self.low, self.high) if end is not None)

    @property
    def conditions(self) -> Mapping[str, tuple[Any, ...]]:
        """Of every dimension that this one waits for: the values under which it is drawn."""
        return {
            name: tuple(value) if isinstance(value, list | tuple) else (value,)
            for name, value in (self.when or {}).items()
        }


def broken_rules(dimension: Dimension, *, whole: bool) -> Iterator[str]:
    """Yield what is wrong with a dimension in itself; ``whole`` where it must hold whole numbers."""
    if dimension.choices is not None:
        yield from _broken_choices(dimension.choices, dimension.model_fields_set)
    else:
        yield from _broken_range(dimension)
        if whole and not all(float(n).is_integer() for n in (*dimension.ends, dimension.step or 1)):
            yield "hold whole numbers"


def _broken_choices(choices: Sequence[Any], written: set[str]) -> Iterator[str]:
    if not choices:
        yield "have at least one choice"
    elif len(set(map(choice_key, choices))) < len(choices):
        yield "list each choice once"
    if written - {"choices", "when"}:
        yield "have either choices or a range, not both"


def _broken_range(dimension: Dimension) -> Iterator[str]:
    if dimension.low is None or dimension.high is None:
        yield "have choices, or both low and high"
        return
    if not dimension.low < dimension.high:
        yield "have low < high (choices: [x] fixes a value)"
    if not all(map(math.isfinite, (dimension.low, dimension.high))):
        yield "have finite ends"
    if dimension.log and dimension.low <= 0:
        yield "have low > 0 where log is true"
    if dimension.log and dimension.step is not None:
        yield "have either log or step, not both"
    if dimension.step is not None and not _divides(dimension.step, dimension.high - dimension.low):
        yield "have a step above 0 that divides high - low"


def _divides(step: float, width: float) -> bool:
    ratio = width / step if step > 0 else 0
    return math.isfinite(ratio) and ratio >= 1 and math.isclose(ratio, round(ratio))


def choice_key(value: Any) -> str:
    """Return what two equal choices share: 1 and 1.0 are one choice, 1 and true are two."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return json.dumps(float(value) if is_number else value, sort_keys=True)


def distribution(dimension: Dimension, *, whole: bool) -> BaseDistribution:
    """Return a sound dimension as an Optuna distribution; a list among its choices becomes its text."""
    if dimension.choices is not None:
        return CategoricalDistribution(tuple(map(recordable, dimension.choices)))
    assert dimension.low is not None
    assert dimension.high is not None
    if whole:
        low, high = int(dimension.low), int(dimension.high)
        return IntDistribution(low, high, log=dimension.log, step=int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def recordable(choice: Any) -> Any:
    """Return a choice as a study records it: a list as it is typed on the command line, with spaces."""
    return " ".join(map(str, choice)) if isinstance(choice, list | tuple) else choice


def values_of(found: BaseDistribution) -> tuple[Any, ...] | None:
    """List the values of a finite distribution; numbers in rising order; None where it is continuous."""
    if isinstance(found, CategoricalDistribution):
        return tuple(sorted(found.choices)) if are_numbers(found.choices) else tuple(found.choices)
    if found.step is None:
        return None
    n_steps = math.floor((found.high - found.low) / found.step + 1e-9)
    steps = (found.low + k * found.step for k in range(n_steps + 1))
    return tuple(min(value, found.high) for value in steps)


def are_numbers(choices: Sequence[Any]) -> bool:
    """Whether choices have an order."""
    return all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)


def holds(found: BaseDistribution, value: Any) -> bool:
    """Whether a value is one of a distribution's: a study would take others, and only warn."""
    try:
        return bool(found._contains(found.to_internal_repr(value)))
    except ValueError:
        return False


def n_values(found: BaseDistribution) -> float:
    """Count the values of a distribution; infinity where it is continuous."""
    values = values_of(found)
    return math.inf if values is None else len(values)


def draw(found: BaseDistribution, rng: np.random.Generator) -> Any:
    """Draw one value: uniform over choices and steps, log-uniform where the distribution says so."""
    if getattr(found, "log", False):
        low, high = math.log(found.low), math.log(found.high)
        return _within(found, math.exp(rng.uniform(low, high)))
    values = values_of(found)
    if values is not None:
        return values[rng.integers(len(values))]
    return float(rng.uniform(found.low, found.high))


def center(found: BaseDistribution) -> Any:
    """Return the typical value: the lower median, the (log) middle of a range, the first of words."""
    if getattr(found, "log", False):
        return _within(found, math.sqrt(found.low * found.high))
    values = values_of(found)
    if values is None:
        return (found.low + found.high) / 2
    return values[(len(values) - 1) // 2 if are_numbers(values) else 0]


def _within(found: BaseDistribution, value: float) -> int | float:
    """Clip ``value`` to a log distribution, rounded where it holds whole numbers."""
    number = round(value) if isinstance(found, IntDistribution) else value
    return min(max(number, found.low), found.high)
