"""Answers as columns, named as in the test tables. No torch.

n origins; H trained horizons, Q quantile levels, h steps, C target columns.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from finscale.metrics.probabilistic import quantile_name
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import TaskKind, parse_task

__all__ = ["answer_columns", "answer_names"]

Array = NDArray[np.float64]


def answer_names(spec: WindowSpec) -> tuple[str, ...]:
    """Return the names of the columns that answer the task of these windows.

    ``probability``; ``prediction``; the levels at the scored horizon, ``q05`` ..., and at every other that
    is trained, ``q05_h6`` ...; of a forecast every target column and step, ``OT_1``; of classes every target
    column and label, ``colour_red``.
    """
    return _NAMES[parse_task(spec.task).kind](spec)


def answer_columns(answer: Array, spec: WindowSpec) -> dict[str, Array]:
    """Return answers (n, ...), see `finscale.training.scoring`, as named columns (n,).

    Examples
    --------
    >>> spec = WindowSpec(experiment="e", task="direction", touch="high", horizon=1, context_length=8,
    ...                   features=("close",), data_hash="d", title="t")
    >>> answer_columns(np.array([0.25, 0.5]), spec)
    {'probability': array([0.25, 0.5 ])}
    """
    kind = parse_task(spec.task).kind
    if kind == "quantile":
        answer = answer[:, [spec.horizons.index(horizon) for horizon in _scored_first(spec)]]
    elif kind == "forecast":
        answer = answer.transpose(0, 2, 1)
    return dict(zip(answer_names(spec), answer.reshape(len(answer), -1).T, strict=True))


def _scored_first(spec: WindowSpec) -> tuple[int, ...]:
    return (spec.horizon, *(horizon for horizon in spec.horizons if horizon != spec.horizon))


def _quantiles(spec: WindowSpec) -> tuple[str, ...]:
    endings = ["", *(f"_h{horizon}" for horizon in _scored_first(spec)[1:])]
    return tuple(f"{quantile_name(level)}{ending}" for ending in endings for level in spec.quantile_levels)


def _steps(spec: WindowSpec) -> tuple[str, ...]:
    return tuple(f"{name}_{step}" for name in spec.target_columns for step in range(1, spec.horizon + 1))


def _labels(spec: WindowSpec) -> tuple[str, ...]:
    return tuple(f"{name}_{label}" for name in spec.target_columns for label in spec.vocabularies[name])


_NAMES: Final[Mapping[TaskKind, Callable[[WindowSpec], tuple[str, ...]]]] = {
    "binary": lambda spec: ("probability",),
    "regression": lambda spec: ("prediction",),
    "quantile": _quantiles,
    "forecast": _steps,
    "classes": _labels,
}
