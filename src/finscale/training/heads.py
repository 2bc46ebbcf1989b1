"""Which head answers a task: a model's must be the one its windows ask for. No torch."""

from collections.abc import Callable
from typing import Any, Final

from finscale.archgrid.base import GridConfig
from finscale.core.errors import Fault
from finscale.models.head_config import (
    ClassesHead,
    ForecastHead,
    HeadConfig,
    LogitsHead,
    QuantileHead,
    RegressionHead,
)
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import TaskKind, parse_task

__all__ = ["HEADS", "head_fault", "head_for", "with_head"]


def head_for(spec: WindowSpec) -> HeadConfig:
    """Return the head that answers the task of these windows.

    The ``columns`` of a forecast are named where they are not all features in order.
    """
    return HEADS[parse_task(spec.task).kind](spec)


def with_head(model: GridConfig, spec: WindowSpec) -> GridConfig:
    """Return what a grid keeps fixed, with what these windows decide: its head, the length of a session."""
    head = head_for(spec)
    if isinstance(head, ForecastHead) and not getattr(model, "ties_columns", True):
        head = head.model_copy(update={"columns": None})
    told = {"head": head, "session_bars": spec.session_bars}
    decided = {name: value for name, value in told.items() if name in type(model).model_fields}
    return type(model).read({**model.model_dump(), **decided}, subject="model")


def head_fault(model: Any, spec: WindowSpec) -> Fault | None:
    """Return what is wrong with the head of a model config on these windows; None where nothing is.

    A model without a ``head`` is not judged here. A forecast tied to no column may order them at will.
    """
    found, asked = getattr(model, "head", None), head_for(spec)
    tied = getattr(model, "ties_columns", True)
    if found is None or _facts(found, tied=tied) == _facts(asked, tied=tied):
        return None
    return Fault("model.head", f"be that of the windows ({asked})", f"{found}", "set model.head")


def _facts(head: HeadConfig, *, tied: bool) -> dict[str, Any]:
    facts = head.model_dump()
    if not tied:
        facts.pop("columns", None)
    elif isinstance(head, ForecastHead):
        facts["columns"] = head.columns or tuple(range(head.n_channels))
    return facts


def _logits(spec: WindowSpec) -> HeadConfig:
    return LogitsHead()


def _regression(spec: WindowSpec) -> HeadConfig:
    return RegressionHead()


def _quantiles(spec: WindowSpec) -> HeadConfig:
    return QuantileHead(horizons=spec.horizons, levels=spec.quantile_levels)


def _forecast(spec: WindowSpec) -> HeadConfig:
    columns = tuple(spec.features.index(name) for name in spec.target_columns)
    whole = columns == tuple(range(len(spec.features)))
    return ForecastHead(horizon=spec.horizon, n_channels=len(columns), columns=None if whole else columns)


def _classes(spec: WindowSpec) -> HeadConfig:
    return ClassesHead(n_classes=spec.n_classes)


HEADS: Final[dict[TaskKind, Callable[[WindowSpec], HeadConfig]]] = {
    "binary": _logits,
    "regression": _regression,
    "quantile": _quantiles,
    "forecast": _forecast,
    "classes": _classes,
}
