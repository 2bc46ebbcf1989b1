"""Every folder under pipelines/ is a runnable pipeline; those that train bring their upstream nodes along."""

import importlib

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

__all__ = ["register_pipelines"]

_UPSTREAM = {
    "dataset": ("feature_engineering",),
    "arch_grid": ("feature_engineering", "dataset"),
    "hpo": ("feature_engineering", "dataset", "arch_grid"),
    "training": ("feature_engineering", "dataset"),
    "context_sweep": ("feature_engineering", "dataset"),
}
_DEFAULT = ("feature_engineering", "dataset", "arch_grid", "hpo", "training", "scaling_analysis")


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name; ``__default__`` is one cell up to its scaling analysis.

    Upstream nodes whose inputs have not changed are skipped at run time (see `runtime.runner`). When the
    command names pipelines, Kedro asks for these alone, and only their rooms are imported.
    """
    found = find_pipelines(raise_errors=True)
    registered = {name: _joined((*_UPSTREAM.get(name, ()), name)) for name in found if name != "__default__"}
    return {**registered, "__default__": _joined(_DEFAULT)} if "__default__" in found else registered


def _joined(names: tuple[str, ...]) -> Pipeline:
    rooms = (importlib.import_module(f"finscale.pipelines.{name}") for name in names)
    return sum((room.create_pipeline() for room in rooms), Pipeline([]))
