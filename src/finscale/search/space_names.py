"""Who reads a dimension, the training or the row, and which values its reader accepts."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Annotated, Any, get_args

from pydantic import TypeAdapter, ValidationError

from finscale.archgrid.base import FAMILIES
from finscale.search.dimensions import Dimension
from finscale.training.config import TrainingConfig

__all__ = ["DATA_NAMES", "TRAINING_NAMES", "accepted", "broken_value_rules", "coerced"]
__all__ += [
    "holds_whole_numbers",
    "is_row_name",
    "is_training_name",
    "legal_names",
    "row_names",
    "training_order",
]

TRAINING_NAMES = (*TrainingConfig.model_fields, "dropout")
"""Training dimensions, in the order in which they are drawn."""

DATA_NAMES = ("context_length", "features")
"""Row dimensions that belong to the windows."""

_NEVER_SEARCHED = {"family", "head", "dropout", "session_bars"}
_WORDS = {"transformer": ("rope_base",)}
"""By family: what its config reads beside its fields."""


def row_names(family: str) -> tuple[str, ...]:
    """Return the row dimensions of a family."""
    fields = (name for name in FAMILIES[family].model_fields if name not in _NEVER_SEARCHED)
    return (*fields, *_WORDS.get(family, ()), *DATA_NAMES)


def is_row_name(name: str, family: str) -> bool:
    """Whether a candidate row decides this dimension."""
    return name in row_names(family)


def is_training_name(name: str) -> bool:
    """Whether every trial decides this dimension for itself."""
    return name in TRAINING_NAMES


def legal_names(family: str) -> tuple[str, ...]:
    """Return every dimension that a search of this family may have."""
    return (*TRAINING_NAMES, *row_names(family))


def training_order(name: str) -> tuple[int, str]:
    """Sort key: training dimensions as their config lists them, then the others by name."""
    return (TRAINING_NAMES.index(name) if name in TRAINING_NAMES else len(TRAINING_NAMES), name)


def holds_whole_numbers(name: str, family: str) -> bool:
    """Whether the reader of a dimension takes integers and no fractions."""
    kinds = set(_kinds(_annotation(name, family)))
    return int in kinds and float not in kinds


def accepted(name: str, values: Iterable[Any]) -> tuple[Any, ...]:
    """Return the values of a training dimension as its config reads them; of other dimensions as they are."""
    if not is_training_name(name):
        return tuple(values)
    return tuple(_adapter(name).validate_python(value) for value in values)


def coerced(name: str, dimension: Dimension) -> Dimension:
    """Return a sound dimension with its choices as their config reads them."""
    if dimension.choices is None:
        return dimension
    return dimension.model_copy(update={"choices": accepted(name, dimension.choices)})


def broken_value_rules(name: str, values: Iterable[Any]) -> list[str]:
    """Return the rules that values of a training dimension break, each once."""
    found = [rule for value in values for rule in _broken_by(name, value)] if is_training_name(name) else []
    return list(dict.fromkeys(found))


def _broken_by(name: str, value: Any) -> Sequence[str]:
    try:
        _adapter(name).validate_python(value)
    except ValidationError as error:
        rules = (detail["msg"].removeprefix("Input should ") for detail in error.errors())
        return [" or ".join(dict.fromkeys(rules))]
    return []


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_annotation(name, next(iter(FAMILIES))))


def _annotation(name: str, family: str) -> Any:
    if name == "context_length":
        return int
    record = TrainingConfig if name in TrainingConfig.model_fields else FAMILIES[family]
    info = record.model_fields.get(name)
    if info is None:
        return Any
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def _kinds(annotation: Any) -> Iterable[Any]:
    """The plain types inside an annotation."""
    parts = get_args(annotation)
    return [annotation] if not parts else [kind for part in parts for kind in _kinds(part)]
