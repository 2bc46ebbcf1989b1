"""Every folder under pipelines/ is a runnable pipeline; hpo and training bring their upstream nodes along."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

__all__ = ["register_pipelines"]

_UPSTREAM = {
    "dataset": ("feature_engineering",),
    "hpo": ("feature_engineering", "dataset", "arch_grid"),
    "training": ("feature_engineering", "dataset"),
}
_DEFAULT = ("feature_engineering", "dataset", "arch_grid", "hpo", "training", "scaling_analysis")


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name; ``__default__`` is one cell up to its scaling analysis.

    Upstream nodes whose inputs have not changed are skipped at run time (see `runtime.runner`).
    """
    rooms = find_pipelines(raise_errors=True)
    rooms.pop("__default__", None)
    with_upstream = {
        name: sum((rooms[upstream] for upstream in _UPSTREAM.get(name, ())), room)
        for name, room in rooms.items()
    }
    return {**with_upstream, "__default__": sum((rooms[name] for name in _DEFAULT), Pipeline([]))}
