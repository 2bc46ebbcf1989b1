"""Which options of the loss a task reads, and how many weights it takes. No torch."""

from collections.abc import Iterator
from typing import Final

from finscale.core.errors import Fault
from finscale.training.config import SharedTraining
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import TaskKind, parse_task

__all__ = ["loss_faults"]

_OF_CLASSES = ("class_weights", "label_smoothing", "focal_gamma")
_OF_ERRORS = ("loss", "huber_delta")

_READ: Final[dict[TaskKind, tuple[str, ...]]] = {
    "binary": _OF_CLASSES,
    "classes": (*_OF_CLASSES, "loss_weights"),
    "regression": _OF_ERRORS,
    "forecast": (*_OF_ERRORS, "loss_weights"),
    "quantile": ("loss_weights",),
}
"""By kind of task: the options of its loss."""


def loss_faults(training: SharedTraining, spec: WindowSpec) -> Iterator[Fault]:
    """Yield what is wrong with the options of the loss for the task of these windows."""
    kind = parse_task(spec.task).kind
    for option in (*_OF_CLASSES, *_OF_ERRORS, "loss_weights"):
        value = getattr(training, option)
        if value and option not in _READ[kind]:
            rule = f"be left out for a {kind} task, which reads {', '.join(_READ[kind])}"
            yield Fault(f"training.{option}", rule, value, "remove it")
    if training.loss_weights is not None and "loss_weights" in _READ[kind]:
        yield from _count_fault("loss_weights", training.loss_weights, _targets(spec, kind))
    if isinstance(training.class_weights, tuple) and "class_weights" in _READ[kind]:
        yield from _count_fault("class_weights", training.class_weights, _classes(spec, kind))


def _count_fault(option: str, weights: tuple[float, ...], names: tuple[str, ...]) -> Iterator[Fault]:
    if len(weights) != len(names):
        rule = f"hold {len(names)} weights, one each of {', '.join(names)}"
        yield Fault(f"training.{option}", rule, weights)


def _targets(spec: WindowSpec, kind: TaskKind) -> tuple[str, ...]:
    if kind == "quantile":
        return tuple(f"horizon {horizon}" for horizon in spec.horizons)
    return spec.target_columns


def _classes(spec: WindowSpec, kind: TaskKind) -> tuple[str, ...]:
    if kind == "binary":
        return ("class 0", "class 1")
    pairs = zip(spec.target_columns, spec.n_classes, strict=True)
    return tuple(f"{column}={code}" for column, count in pairs for code in range(count))
