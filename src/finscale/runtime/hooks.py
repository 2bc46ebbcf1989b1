"""Kedro hooks around a run: pre-flight before, a summary after. Nothing here computes."""

from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from finscale.core.errors import raise_faults
from finscale.longcontext.context_sweep import lengths_of
from finscale.models.config import parse_model_config
from finscale.runtime import preflight
from finscale.runtime.definition import group
from finscale.runtime.hardware import HARDWARE
from finscale.runtime.stopping import STOP
from finscale.runtime.summary import print_summary
from finscale.runtime.wandb_runs import keep_under
from finscale.training.export_config import export_faults

__all__ = ["ProjectHooks"]


class ProjectHooks:
    """What every command of the project does beside its pipelines."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Watch the data folder for STOP files; a faulty definition ends the command here."""
        data = Path(group(context.config_loader["parameters"], "paths").data)
        STOP.watch(data)
        keep_under(data.resolve())

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Stop before anything is written when the device or the model cannot be trained on the task."""
        if any(preflight.NEEDS_DEVICE in node.tags for node in pipeline.nodes):
            parameters = catalog.load("parameters")
            model = parse_model_config(parameters["model"])
            preflight.require_trainable(group(parameters, "definition"), model)
            raise_faults(export_faults(group(parameters, "training"), model, dropout=None))
            if "context_specs" in pipeline.all_outputs():
                length = group(parameters, "definition").data.context_length
                lengths_of(group(parameters, "context_sweep"), model, context_length=length)
            preflight.require_device(group(parameters, "execution"), environment=run_params["env"])
        if any(preflight.SEARCHES in node.tags for node in pipeline.nodes):
            parameters = catalog.load("parameters")
            preflight.require_workers(group(parameters, "hpo"), group(parameters, "paths"))

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol) -> None:
        """Watch the machine from the first node that trains on: faulty bars leave nothing behind."""
        if preflight.NEEDS_DEVICE in node.tags and not HARDWARE.is_watching:
            parameters = catalog.load("parameters")
            log = Path(group(parameters, "paths").data) / "07_model_output/hardware.csv"
            HARDWARE.watch(group(parameters, "execution"), log)

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Say what was done, where it is and what comes next."""
        HARDWARE.rest()
        print_summary(pipeline, catalog)

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """End the watch over the machine."""
        HARDWARE.rest()
