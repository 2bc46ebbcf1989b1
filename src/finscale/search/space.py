"""The training dimensions of a search: what may be drawn, and from where.

A dimension is written as ``choices`` or as ``low``/``high`` with ``log`` or ``step``; at run time it is an
Optuna distribution, so that architecture coordinates and training parameters speak one language.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ValidationInfo, field_validator

from finscale.core.config import Record
from finscale.core.errors import Fault

__all__ = ["Dimension", "SearchSpace", "center", "draw", "n_values", "values_of"]

_INTEGERS = ("epochs", "warmup_steps")
_BOUNDS = {
    "learning_rate": ("be above 0", lambda value: value > 0),
    "epochs": ("be at least 1", lambda value: value >= 1),
    "weight_decay": ("be at least 0", lambda value: value >= 0),
    "warmup_steps": ("be at least 0", lambda value: value >= 0),
    "dropout": ("lie in [0, 1)", lambda value: 0 <= value < 1),
}


class Dimension(Record):
    """One searched number: ``choices``, or a range with ``log`` or ``step``."""

    choices: tuple[int | float, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None

    @property
    def ends(self) -> tuple[float, ...]:
        """Every choice, or low and high where given."""
        if self.choices is not None:
            return self.choices
        return tuple(end for end in (self.low, self.high) if end is not None)


class SearchSpace(Record):
    """The training parameters that a trial draws; architectures come from the cell's grid.

    Raises
    ------
    FinscaleError
        From ``SearchSpace.read``: every faulty dimension at once.
    """

    learning_rate: Dimension = Dimension(low=1e-4, high=1e-3, log=True)
    epochs: Dimension = Dimension(choices=(50, 75, 100))
    weight_decay: Dimension = Dimension(low=1e-4, high=5e-3, log=True)
    warmup_steps: Dimension = Dimension(choices=(100, 200, 300, 500))
    dropout: Dimension = Dimension(low=0.1, high=0.3)

    @field_validator("*")
    @classmethod
    def _is_sound(cls, dimension: Dimension, info: ValidationInfo) -> Dimension:
        name = str(info.field_name)
        broken = list(_broken_rules(name, dimension))
        if broken:
            got = dimension.model_dump(exclude_unset=True)
            remedy = "write choices: [...], or low and high with log: true or step"
            raise Fault(f"hpo.space.{name}", " and ".join(broken), got, remedy)
        return dimension

    def distributions(self) -> dict[str, BaseDistribution]:
        """Every dimension as an Optuna distribution, in the order of the fields."""
        return {name: _distribution(name, getattr(self, name)) for name in type(self).model_fields}


def _broken_rules(name: str, dimension: Dimension) -> Iterator[str]:
    if dimension.choices is not None:
        yield from _broken_choices(dimension)
    else:
        yield from _broken_range(dimension)
    rule, holds = _BOUNDS[name]
    if not all(math.isfinite(end) and holds(end) for end in dimension.ends):
        yield rule
    numbers = (*dimension.ends, dimension.step or 1)
    if name in _INTEGERS and not all(float(number).is_integer() for number in numbers):
        yield "hold whole numbers"


def _broken_choices(dimension: Dimension) -> Iterator[str]:
    if not dimension.choices:
        yield "have at least one choice"
    elif len(set(dimension.choices)) < len(dimension.choices):
        yield "list each choice once"
    if dimension.model_fields_set - {"choices"}:
        yield "have either choices or a range, not both"


def _broken_range(dimension: Dimension) -> Iterator[str]:
    if dimension.low is None or dimension.high is None:
        yield "have choices, or both low and high"
        return
    if not dimension.low < dimension.high:
        yield "have low < high (choices: [x] fixes a value)"
    if dimension.log and dimension.low <= 0:
        yield "have low > 0 where log is true"
    if dimension.log and dimension.step is not None:
        yield "have either log or step, not both"
    if dimension.step is not None and not _divides(dimension.step, dimension.high - dimension.low):
        yield "have a step above 0 that divides high - low"


def _divides(step: float, width: float) -> bool:
    return step > 0 and width / step >= 1 and math.isclose(width / step, round(width / step))


def _distribution(name: str, dimension: Dimension) -> BaseDistribution:
    number: type = int if name in _INTEGERS else float
    if dimension.choices is not None:
        return CategoricalDistribution(tuple(number(choice) for choice in dimension.choices))
    assert dimension.low is not None
    assert dimension.high is not None
    low, high, step = number(dimension.low), number(dimension.high), dimension.step
    if number is int:
        return IntDistribution(low, high, log=dimension.log, step=int(step or 1))
    return FloatDistribution(low, high, log=dimension.log, step=step)


def values_of(distribution: BaseDistribution) -> tuple[Any, ...] | None:
    """List the values of a finite distribution in rising order; None where it is continuous."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(sorted(distribution.choices))
    if distribution.step is None:
        return None
    n_steps = math.floor((distribution.high - distribution.low) / distribution.step + 1e-9)
    steps = (distribution.low + k * distribution.step for k in range(n_steps + 1))
    return tuple(min(value, distribution.high) for value in steps)


def n_values(distribution: BaseDistribution) -> float:
    """Count the values of a distribution; infinity where it is continuous."""
    values = values_of(distribution)
    return math.inf if values is None else len(values)


def draw(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    """Draw one value: uniform over choices and steps, log-uniform where the distribution says so."""
    if getattr(distribution, "log", False):
        low, high = math.log(distribution.low), math.log(distribution.high)
        return _within(distribution, math.exp(rng.uniform(low, high)))
    values = values_of(distribution)
    if values is not None:
        return values[rng.integers(len(values))]
    return float(rng.uniform(distribution.low, distribution.high))


def center(distribution: BaseDistribution) -> Any:
    """Return the typical value: the lower median of choices and steps, the (log) middle of a range."""
    if getattr(distribution, "log", False):
        return _within(distribution, math.sqrt(distribution.low * distribution.high))
    values = values_of(distribution)
    if values is not None:
        return values[(len(values) - 1) // 2]
    return (distribution.low + distribution.high) / 2


def _within(distribution: BaseDistribution, value: float) -> int | float:
    """Clip ``value`` to a log distribution, rounded where it holds whole numbers."""
    number = round(value) if isinstance(distribution, IntDistribution) else value
    return min(max(number, distribution.low), distribution.high)
