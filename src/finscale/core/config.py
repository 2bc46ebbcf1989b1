"""Typed, frozen configuration records: an unknown key is an error, and every fault is shown at once."""

import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from finscale.core.errors import Fault, raise_faults, suggest

__all__ = ["Record", "annotation_of_extras", "faults_of", "leaves_of"]


class Record(BaseModel):
    """Base class of every configuration and result record."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _read_lists(cls, values: Any) -> Any:
        """A list typed on the command line is one string with spaces, or a single value."""
        if not isinstance(values, Mapping):
            return values
        typed = {
            name: _split(values[name])
            for name, field in cls.model_fields.items()
            if name in values and _is_list(field.annotation) and isinstance(values[name], str | int | float)
        }
        return {**values, **typed}

    @classmethod
    def read(cls, values: Mapping[str, Any], *, subject: str = "") -> Self:
        """Validate ``values``; raise every fault at once, in the project's grammar.

        Parameters
        ----------
        values : mapping
            Plain values, as read from YAML or JSON.
        subject : str
            Prefix of the field names in messages (``hpo`` makes ``hpo.n_trials``).

        Raises
        ------
        FinscaleError
            With one line per fault.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise_faults(faults_of(error, cls, subject))
            raise

    def leaves(self, prefix: str = "") -> dict[str, Any]:
        """Return the record as a flat ``{"a.b": value}`` dictionary of JSON leaves."""
        return dict(leaves_of(self.model_dump(mode="json"), prefix))


def _is_list(annotation: Any) -> bool:
    """Whether a field holds a list and nothing that a string or number could be."""
    parts = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return all(part is types.NoneType or typing.get_origin(part) is tuple for part in parts)


def _split(value: str | int | float) -> list[Any]:
    return [yaml.safe_load(item) for item in value.split()] if isinstance(value, str) else [value]


def leaves_of(value: Any, prefix: str) -> list[tuple[str, Any]]:
    """Return every leaf of nested mappings with its dotted name."""
    if not isinstance(value, Mapping):
        return [(prefix, value)]
    joined = ((f"{prefix}.{key}" if prefix else str(key), child) for key, child in value.items())
    return [leaf for name, child in joined for leaf in leaves_of(child, name)]


def faults_of(error: ValidationError, cls: type[BaseModel], subject: str = "") -> list[Fault]:
    """Translate pydantic's findings into our grammar, with a suggestion for an unknown key."""
    return [fault for detail in error.errors() for fault in _faults(detail, cls, subject)]


def _faults(detail: Any, cls: type[BaseModel], subject: str) -> list[Fault]:
    """A validator may have found several faults at once; they are then told one by one."""
    inner = detail.get("ctx", {}).get("error")
    several = [fault for fault in getattr(inner, "faults", ()) if isinstance(fault, Fault)]
    return several or [_fault(detail, cls, subject)]


def _fault(detail: Any, cls: type[BaseModel], subject: str) -> Fault:
    location = [str(part) for part in detail["loc"]]
    name = ".".join([subject, *location] if subject else location) or cls.__name__
    if detail["type"] == "extra_forbidden":
        legal = _fields_at(cls, location[:-1])
        return Fault(name, "be a known key", detail["input"], suggest(location[-1], legal))
    if detail["type"] == "missing":
        return Fault(name, "be given", "nothing", f"add {name}")
    if detail["type"] == "value_error":
        inner = detail["ctx"]["error"]
        if isinstance(inner, Fault):
            return inner
    rule = detail["msg"].removeprefix("Value error, ").removeprefix("Input should ")
    return Fault(name, rule, detail["input"], _near_choice(detail))


def _near_choice(detail: Any) -> str:
    """What a misspelt choice may have meant; the rule lists them all."""
    if detail["type"] != "literal_error":
        return ""
    remedy = suggest(str(detail["input"]), re.findall(r"'([^']+)'", detail["ctx"]["expected"]))
    return remedy if remedy.startswith("did") else ""


def _fields_at(cls: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields of the record found by following ``path``; tags of unions are skipped."""
    current: Any = cls
    for part in path:
        field = getattr(current, "model_fields", {}).get(part)
        annotation = field.annotation if field else annotation_of_extras(current)
        if annotation is not None:
            found = _records_in(annotation)
            current = found[0] if len(found) == 1 else _Union(found)
        elif isinstance(current, _Union):
            current = current.pick(part)
    return list(getattr(current, "model_fields", {}))


def annotation_of_extras(record: Any) -> Any:
    """Return the type in which a record with open keys holds them; None of any other record."""
    return getattr(record, "__annotations__", {}).get("__pydantic_extra__")


def _records_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [record for arg in getattr(annotation, "__args__", ()) for record in _records_in(arg)]


class _Union:
    """The records of a tagged union, while a location is being followed through its tag."""

    def __init__(self, records: list[type[BaseModel]]) -> None:
        self.records = records

    def pick(self, tag: str) -> Any:
        for record in self.records:
            if any(tag == field.default for field in record.model_fields.values()):
                return record
        return self
