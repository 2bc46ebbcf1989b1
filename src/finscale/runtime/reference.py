"""The reference of parameters, written from the config classes: ``python -m finscale.runtime.reference``."""

import inspect
import re
import typing
from collections.abc import Container
from types import NoneType, UnionType
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from finscale.archgrid.base import FAMILIES
from finscale.core.config import Record, annotation_of_extras
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.context_sweep import ContextSweepConfig
from finscale.runtime.definition import (
    RUNTIME_KEYS,
    SET_ELSEWHERE,
    GridSettings,
    ScalingSettings,
    SweepSettings,
    TrainingSettings,
)
from finscale.search.config import SearchConfig
from finscale.training.config import ExecutionConfig
from finscale.windows.experiment import ExperimentConfig

__all__ = ["parameters_page"]

_GROUPS: dict[str, type[BaseModel]] = {
    "experiments.<name>": ExperimentConfig,
    "hpo": SearchConfig,
    "training": TrainingSettings,
    "execution": ExecutionConfig,
    "grid": GridSettings,
    "scaling": ScalingSettings,
    "context_sweep": ContextSweepConfig,
    "sweep": SweepSettings,
    "long_context_blocks.<name>": LongContextConfig,
}
_MODELS: dict[str, type[BaseModel]] = {f"model.{family}": config for family, config in FAMILIES.items()}


def parameters_page() -> str:
    """Return the page ``docs/reference/parameters.md``."""
    head = [
        "# Parameters",
        "",
        "Written from the config classes by `python -m finscale.runtime.reference`; a test keeps it current.",
        "",
        "`--params` takes these top-level keys, and any leaf of `hpo`, `training`, `data`, `scaling`, "
        "`context_sweep` and of the block of the long-context evaluation that runs "
        "(`--params hpo.n_trials=5,data.task=direction`, "
        "`--params long_context=cpu_smoke,long_context_blocks.cpu_smoke.evaluation.n_samples=4`; a list is "
        "one string with spaces): " + ", ".join(f"`{key}`" for key in RUNTIME_KEYS) + ".",
        "The other groups belong in an environment's `parameters.yml`. An unknown key is an error.",
        "",
    ]
    groups = [line for name, record in _GROUPS.items() for line in _section(name, record)]
    models = [line for name, record in _MODELS.items() for line in _section(name, record, SET_ELSEWHERE)]
    return "\n".join([*head, *groups, *models])


def _section(name: str, record: type[BaseModel], left_out: Container[str] = ()) -> list[str]:
    told = _descriptions(record)
    fields = {field: info for field, info in record.model_fields.items() if field not in left_out}
    rows = [
        f"| `{field}` | {_type(info.annotation)} | {_default(info)} | {told.get(field, '')} |"
        for field, info in fields.items()
    ]
    open_kinds = _records(annotation_of_extras(record))
    rows += [f"| `<name>` | {kind.__name__} | | {told.get('<name>', '')} |" for kind in open_kinds]
    table = ["| key | type | default | |", "|---|---|---|---|", *rows, ""]
    summary = (inspect.getdoc(record) or "").split("\n", maxsplit=1)[0]
    nested = [
        line
        for field, info in fields.items()
        for kind in _records(info.annotation)
        for line in _section(f"{name}.{field}{_tag(kind)}", kind)
    ]
    nested += [line for kind in open_kinds for line in _section(f"{name}.<name>", kind)]
    return [f"## `{name}`", "", summary, "", *table, *nested]


def _tag(record: type[BaseModel]) -> str:
    """How one record of a tagged union is told from the others."""
    tag = record.model_fields.get("kind")
    return f" (kind: {tag.default})" if tag is not None and isinstance(tag.default, str) else ""


def _records(annotation: Any) -> list[type[BaseModel]]:
    if typing.get_origin(annotation) in (UnionType, dict):
        return [record for kind in typing.get_args(annotation) for record in _records(kind)]
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return []


def _type(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(annotation))
    if isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union:
        return " or ".join(_type(part) for part in typing.get_args(annotation))
    if typing.get_origin(annotation) is typing.Annotated:
        return _type(typing.get_args(annotation)[0])
    if annotation is NoneType:
        return "null"
    if typing.get_origin(annotation) is tuple:
        return "list of " + _type(typing.get_args(annotation)[0])
    return str(getattr(annotation, "__name__", annotation))


def _default(info: Any) -> str:
    if info.default_factory is not None:
        return f"`{info.default_factory()}`"
    if info.default is PydanticUndefined:
        return "required"
    if isinstance(info.default, BaseModel):
        return "see below" if _records(type(info.default)) else f"`{_short(info.default)}`"
    return "`null`" if info.default is None else f"`{info.default}`"


def _short(record: BaseModel) -> str:
    return ", ".join(f"{name}: {value}" for name, value in record.model_dump(exclude_defaults=True).items())


def _descriptions(record: type[BaseModel]) -> dict[str, str]:
    """Read the numpydoc parameters of the docstrings of a record and of those it extends."""
    found: dict[str, str] = {}
    names: list[str] = []
    docs = [inspect.getdoc(base) or "" for base in reversed(record.__mro__) if issubclass(base, Record)]
    for line in "\n".join(docs).splitlines():
        heading = re.fullmatch(r"(<name>|[a-z_]+(?:, [a-z_]+)*) : .*", line)
        if heading:
            names = heading[1].split(", ")
        elif names and line.startswith("    "):
            for name in names:
                found[name] = (
                    f"{found.get(name, '')} {line.strip()}".strip().replace("``", "`").replace("|", "\\|")
                )
        elif line.strip():
            names = []
    return found


if __name__ == "__main__":
    print(parameters_page(), end="")
