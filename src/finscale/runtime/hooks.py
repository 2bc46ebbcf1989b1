"""Kedro hooks: the definition is resolved and checked before any node runs, and bound to the catalog."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from omegaconf.errors import OmegaConfBaseException

from finscale.datasets.bars import BarsDataset
from finscale.runtime import preflight
from finscale.runtime.definition import check_runtime_params, group, resolve
from finscale.runtime.provenance import commit_of
from finscale.runtime.stopping import STOP
from finscale.runtime.summary import print_summary
from finscale.training.run_spec import RunSpec, read_run_spec

__all__ = ["ProjectHooks"]

_BARS = "bars_"
logger = logging.getLogger(__name__)


class ProjectHooks:
    """Resolve, check, bind; nothing here computes."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse unknown parameters, resolve the experiment, and give nodes what they read."""
        loader = context.config_loader
        check_runtime_params(loader.runtime_params or {})
        spec = _named_run_spec(loader.runtime_params or {})
        if spec is not None:
            cell = {"experiment": spec.experiment.name, "budget": spec.budget, "horizon": spec.horizon}
            loader.runtime_params = {**loader.runtime_params, **cell}
        parameters = resolve(loader["parameters"], sources=_sources(context), run_spec=spec)
        commit, dirty = commit_of(context.project_path)
        parameters["provenance"] = {
            "commit": commit,
            "dirty": dirty,
            "environment": context.env or "local",
        }
        loader["parameters"] = parameters
        data = context.project_path / parameters["paths"]["data"]
        parameters["paths"]["data"] = str(data)
        STOP.watch(data)

    @hook_impl
    def after_catalog_created(self, catalog: CatalogProtocol, parameters: dict[str, Any]) -> None:
        """Bind ``bars`` to the source that the experiment names."""
        data = group(parameters["parameters"], "definition").data
        if data.source == "file":
            catalog["bars"] = BarsDataset(source={"kind": "file", "path": data.path})
        else:
            catalog["bars"] = catalog[_BARS + data.source]

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Stop before anything is written when the device that the environment asks for is absent."""
        if any(preflight.NEEDS_DEVICE in node.tags for node in pipeline.nodes):
            execution = group(catalog.load("parameters"), "execution")
            preflight.require_device(execution, environment=run_params["env"])

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Say what was done, where it is and what comes next."""
        print_summary(pipeline, catalog)


def _named_run_spec(runtime_params: Mapping[str, Any]) -> RunSpec | None:
    """The run that ``run_spec=<path>`` names: its experiment and cell outrank what else was typed."""
    path = runtime_params.get("run_spec")
    return None if path is None else read_run_spec(Path(str(path)))


def _sources(context: KedroContext) -> list[str] | None:
    """Names of the bars in the catalog; None when the catalog itself waits for a valid cell."""
    try:
        entries = context.config_loader["catalog"]
    except OmegaConfBaseException:
        return None
    return [name.removeprefix(_BARS) for name in entries if name.startswith(_BARS)]
