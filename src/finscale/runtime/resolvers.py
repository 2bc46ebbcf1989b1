"""OmegaConf resolvers used by conf/: they validate and normalise before a path is formed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kedro.utils import find_kedro_project

from finscale.core.budgets import cell_id, format_budget, parse_budget, parse_horizon
from finscale.core.errors import Fault

__all__ = ["DEFAULT_EXPERIMENT", "RESOLVERS", "experiment_folder", "project_root"]

DEFAULT_EXPERIMENT = "spy_daily_threshold_1pct"


def experiment_folder(experiment: str) -> str:
    """Return ``""`` for the default experiment and ``"<experiment>/"`` for any other.

    Examples
    --------
    >>> experiment_folder("spy_daily_direction")
    'spy_daily_direction/'
    """
    if not str(experiment).isidentifier():
        rule = "be letters, digits and underscores"
        raise Fault("experiment", rule, experiment, "use a name from conf/*/parameters_experiments.yml")
    return "" if experiment == DEFAULT_EXPERIMENT else f"{experiment}/"


def project_root() -> str:
    """Return the absolute path of the Kedro project we stand in."""
    return str(find_kedro_project(Path.cwd()) or Path.cwd())


def data_folder(path: str) -> str:
    """Return the data folder as an absolute path; a relative one lies in the project."""
    return str(Path(project_root()) / path)


def reproduced(run_spec: str | None) -> str:
    """Return the prefix of files that hold a reproduced run, which is no result of the cell."""
    return "reproduced_" if run_spec else ""


def tracking_server(otherwise: str | None) -> str | None:
    """Return the MLflow server that ``MLFLOW_TRACKING_URI`` names, or something else where it is not set.

    Raises
    ------
    Fault
        When it holds a password; the message does not repeat it.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if named and "@" in urlsplit(named).netloc:
        rule, remedy = "hold no credentials", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise Fault("MLFLOW_TRACKING_URI", rule, "an address with some", remedy)
    return named or otherwise


def tracked_files(otherwise: str) -> str | None:
    """Return where MLflow keeps files: a server named by ``MLFLOW_TRACKING_URI`` knows by itself."""
    return None if os.environ.get("MLFLOW_TRACKING_URI") else otherwise


def native_precision() -> str:
    """Return ``bf16`` where this machine computes in it natively, else ``fp32``.

    See `finscale.training.execution.fastest_precision`; torch is imported where a configuration asks for it.
    """
    from finscale.training.execution import fastest_precision

    return fastest_precision()


RESOLVERS: dict[str, Callable[..., Any]] = {
    "cell_id": cell_id,
    "budget": lambda budget: format_budget(parse_budget(budget)),
    "horizon": parse_horizon,
    "experiment_folder": experiment_folder,
    "project_root": project_root,
    "data_folder": data_folder,
    "reproduced": reproduced,
    "native_precision": native_precision,
    "tracking_server": tracking_server,
    "tracked_files": tracked_files,
}
