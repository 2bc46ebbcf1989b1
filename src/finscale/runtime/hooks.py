"""Kedro hooks around a run: pre-flight before, a summary after. Nothing here computes."""

from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from finscale.runtime import preflight
from finscale.runtime.definition import group
from finscale.runtime.stopping import STOP
from finscale.runtime.summary import print_summary

__all__ = ["ProjectHooks"]


class ProjectHooks:
    """What every command of the project does beside its pipelines."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Watch the data folder for STOP files; a faulty definition ends the command here."""
        STOP.watch(Path(group(context.config_loader["parameters"], "paths").data))

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Stop before anything is written when the device or the model's head for the task is absent."""
        if any(preflight.NEEDS_DEVICE in node.tags for node in pipeline.nodes):
            parameters = catalog.load("parameters")
            preflight.require_trainable(group(parameters, "definition"))
            preflight.require_device(group(parameters, "execution"), environment=run_params["env"])

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Say what was done, where it is and what comes next."""
        print_summary(pipeline, catalog)
