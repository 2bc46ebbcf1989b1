"""MLflow: one run per Kedro session, nested runs per trial and per seed, as executed. Never in the way.

A tracker that cannot be reached is reported once and replaced by the project's local SQLite file.
"""

import contextlib
import fcntl
import functools
import logging
import os
import socket
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook

import finscale
from finscale.core.config import Record
from finscale.core.errors import Answered
from finscale.prediction import run_files
from finscale.runtime.definition import group
from finscale.runtime.resolvers import project_root

__all__ = [
    "ChildRun",
    "TrackingHooks",
    "answers",
    "is_finite",
    "log_child_run",
    "log_figure",
    "log_metrics",
    "log_missing_runs",
    "log_scoring_model",
]

logger = logging.getLogger(__name__)
_PROBE_S = 2.0
_PARAM_LIMIT = 500


class TrackingHooks(MlflowHook):
    """kedro-mlflow's hook, with a probe of the server, one run per cell, and parameters as single leaves."""

    @property
    def _logger(self) -> logging.Logger:
        return logging.getLogger("kedro.mlflow")

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Probe the tracking server; fall back to the local file when it does not answer."""
        config = context.config_loader["mlflow"]
        uri = config["server"]["mlflow_tracking_uri"]
        local = f"sqlite:///{project_root()}/mlflow.db"
        if not answers(uri):
            logger.warning(
                "MLflow at %s did not answer in %.0f s; tracking to %s instead", uri, _PROBE_S, local
            )
            config["server"]["mlflow_tracking_uri"] = local
        config["tracking"]["experiment"]["name"] = group(context.params, "definition").mlflow_experiment
        context.config_loader["mlflow"] = config
        # MLflow sets its own level when it is imported
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        with _first_use(Path(project_root())):
            super().after_context_created(context)

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Open the session's run and name it after its cell."""
        super().before_pipeline_run(run_params, pipeline, catalog)
        import mlflow

        parameters = catalog.load("parameters")
        cell, definition = group(parameters, "cell"), group(parameters, "definition")
        names = "+".join(run_params.get("pipeline_names") or ["all pipelines"])
        tags = {"mlflow.runName": f"{cell.id} {names}", "cell": cell.id, "experiment": definition.name}
        mlflow.set_tags({**tags, **{key: str(value) for key, value in parameters["provenance"].items()}})

    @hook_impl
    def before_node_run(
        self, node: Node, catalog: CatalogProtocol, inputs: dict[str, Any], is_async: bool
    ) -> None:
        """Log the node's parameters, each leaf by itself; a value logged before is not repeated."""
        leaves = dict(_parameter_leaves(inputs))
        _log_params(leaves)

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Close the session's run as failed, unless the command only had a question to answer."""
        import mlflow

        if isinstance(error, Answered) and not self._already_active_mlflow:
            mlflow.end_run()
        else:
            super().on_pipeline_error(error, run_params, pipeline, catalog)


def _parameter_leaves(inputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in inputs.items():
        if not name.startswith("params:"):
            continue
        short = name.removeprefix("params:")
        if isinstance(value, Record):
            yield from value.leaves(short).items()
        elif not isinstance(value, Mapping):
            yield short, value


def _quietly(log: Callable[..., None]) -> Callable[..., None]:
    """Tracking never stops a run: whatever goes wrong is reported once and forgotten."""

    @functools.wraps(log)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        import mlflow

        if mlflow.active_run() is None:
            return
        try:
            log(*args, **kwargs)
        except Exception as error:
            _warn_once(f"{type(error).__name__}: {error}".splitlines()[0])

    return wrapped


@functools.cache
def _warn_once(message: str) -> None:
    logger.warning("MLflow could not record something (%s); the run goes on", message)


@_quietly
def _log_params(leaves: Mapping[str, Any]) -> None:
    import mlflow

    if leaves:
        mlflow.log_params({name: str(value)[:_PARAM_LIMIT] for name, value in leaves.items()})


@_quietly
def log_metrics(metrics: Mapping[str, float]) -> None:
    """Log finite numbers on the session's run."""
    import mlflow

    mlflow.log_metrics({name: float(value) for name, value in metrics.items() if is_finite(value)})


@_quietly
def log_figure(figure: Any, name: str) -> None:
    """Log a Plotly figure on the session's run as a self-contained page."""
    import mlflow

    mlflow.log_figure(figure, f"figures/{name}.html")


@dataclass(frozen=True)
class ChildRun:
    """A finished trial or seed, as trackers record it.

    Parameters
    ----------
    params : mapping
        As executed.
    metrics : mapping
        Scores; what is not a finite number is left out.
    curve : mapping
        Metric name to (epoch, value) pairs.
    tags : mapping
        ``cell`` and ``kind``.
    """

    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]
    curve: Mapping[str, Sequence[tuple[int, Any]]]
    tags: Mapping[str, str]
    failed: bool = False


@_quietly
def log_child_run(run: ChildRun) -> None:
    """Record a finished trial or seed as a nested run, in three calls."""
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    parent = mlflow.active_run().info
    client = mlflow.MlflowClient()
    now = int(time.time() * 1000)
    recorded = client.create_run(
        parent.experiment_id, run_name=run.name, tags={"mlflow.parentRunId": parent.run_id, **run.tags}
    )
    # scores first: a call takes a thousand numbers, which a long curve would fill
    points = [(key, 0, value) for key, value in run.metrics.items()]
    points += [(key, epoch, value) for key, pairs in run.curve.items() for epoch, value in pairs]
    metrics = [Metric(key, float(value), now, epoch) for key, epoch, value in points if is_finite(value)]
    client.log_batch(
        recorded.info.run_id,
        metrics=metrics[:1000],
        params=[Param(key, str(value)[:_PARAM_LIMIT]) for key, value in run.params.items()][:100],
        tags=[RunTag("kind", run.tags["kind"])],
    )
    client.set_terminated(recorded.info.run_id, status="FAILED" if run.failed else "FINISHED")


@_quietly
def log_missing_runs(runs: Sequence[ChildRun], *, key: Sequence[str]) -> None:
    """Record those runs that the session's experiment does not have.

    Parameters
    ----------
    key : sequence of str
        Parameters by which a run is known again.
    """
    import mlflow

    experiment = mlflow.active_run().info.experiment_id
    cells = {run.tags["cell"] for run in runs}
    recorded = [
        found
        for cell in cells
        for found in mlflow.search_runs([experiment], f"tags.cell = '{cell}'", output_format="list")
    ]
    known = {tuple(found.data.params.get(name) for name in key) for found in recorded}
    for run in runs:
        if tuple(str(run.params[name])[:_PARAM_LIMIT] for name in key) not in known:
            log_child_run(run)


@_quietly
def log_scoring_model(
    folder: Path, *, inputs: Mapping[str, str], optional: Collection[str], outputs: Mapping[str, str]
) -> None:
    """Log a finished run on the session's run, as a pyfunc model that is code and data, without a pickle.

    Parameters
    ----------
    folder : Path
        Of the run, see `finscale.prediction.run_files`.
    inputs, outputs : mapping
        Column to MLflow type (``datetime``, ``double`` ...).
    optional : collection of str
        Inputs that may be left out.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    asked = [ColSpec(kind, name, required=name not in optional) for name, kind in inputs.items()]
    given = [ColSpec(kind, name) for name, kind in outputs.items()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on type hints and examples: the signature says it all
        mlflow.pyfunc.log_model(
            name="winner",
            python_model=str(Path(__file__).with_name("scoring_model.py")),
            artifacts={Path(name).stem: str(folder / name) for name in run_files(folder)},
            signature=ModelSignature(inputs=Schema(asked), outputs=Schema(given)),
            # named, so that nothing is looked up
            pip_requirements=[f"finscale=={finscale.__version__}"],
        )


def is_finite(value: Any) -> bool:
    """Whether a tracker can keep ``value`` as a number."""
    return isinstance(value, int | float) and abs(float(value)) < float("inf")


def answers(uri: str) -> bool:
    """Whether something listens at an http(s) tracking address; files and databases always do."""
    address = urlparse(uri)
    if address.scheme not in ("http", "https"):
        return True
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_PROBE_S).close()
        return True
    except OSError:
        return False


@contextlib.contextmanager
def _first_use(project: Path) -> Iterator[None]:
    """One process at a time opens the tracking store: two first runs would both create its schema."""
    with (project / ".mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
