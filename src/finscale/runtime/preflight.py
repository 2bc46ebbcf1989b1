"""Pre-flight: what would stop a long run later is found before it starts. Each check has a remedy."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from finscale.core.budgets import parse_budget
from finscale.core.errors import Fault, FinscaleError, raise_faults, user_fault
from finscale.models.config import AnyConfig, parse_model_config
from finscale.runtime.definition import Paths, group
from finscale.search.config import SearchConfig
from finscale.training.config import ExecutionConfig, resolve_device
from finscale.windows.experiment import ExperimentConfig

__all__ = [
    "NEEDS_DEVICE",
    "SEARCHES",
    "Check",
    "preflight",
    "require",
    "require_device",
    "require_trainable",
    "require_workers",
]

NEEDS_DEVICE = "device"
"""Tag of the nodes that train or evaluate a model."""

SEARCHES = "search"
"""Tag of the node whose trials may run on a cluster and be kept in a database."""

_MIN_MEMORY_GIB = 1.0
_MIN_DISK_GIB = 1.0


@dataclass(frozen=True)
class Check:
    """One named check: what was found, or the fault with its remedy."""

    name: str
    found: str
    fault: Exception | None = None


def require_device(execution: ExecutionConfig, *, environment: str | None) -> str:
    """Return the device a run will use.

    Raises
    ------
    Fault
        When the environment asks for a device that this machine does not have.
    """
    if execution.device == "cpu":
        return "cpu"
    try:
        return str(resolve_device(execution))
    except Fault as fault:
        where = f"the environment {environment!r} asks for it: " if environment else ""
        remedy = f"{where}add --params device=cpu, or device=auto to take what is there"
        raise Fault(fault.subject, fault.rule, fault.got, remedy) from None


def require_workers(hpo: SearchConfig, paths: Paths) -> str:
    """Return where trials run, what they read and write, and where their studies are kept.

    Raises
    ------
    FinscaleError
        When the cluster, one of its nodes, the shared store or the database is not as a search needs it.
    """
    from finscale.runtime.cluster import require_cluster
    from finscale.search.database import require_database

    found = [require_cluster(hpo)]
    if hpo.executor == "ray":
        found += _require_reach(hpo, paths)
    return "; ".join([*found, f"studies in {require_database()}"])


def _require_reach(hpo: SearchConfig, paths: Paths) -> list[str]:
    """Ask the shared store, and then every node of a cluster that runs; none is started for that."""
    from finscale.runtime.cluster_checks import require_nodes
    from finscale.runtime.shared_store import require_store

    found = [require_store(paths.shared)] if paths.shared is not None else []
    if os.environ.get("RAY_ADDRESS"):
        found.append(require_nodes(hpo, data=Path(paths.data), shared=paths.shared))
    return found


def require_trainable(definition: ExperimentConfig, model: AnyConfig) -> str:
    """Return the task that ``model`` is trained on.

    Raises
    ------
    FinscaleError
        For what can be windowed but not trained: contexts that are masked where the model cannot read masks,
        and a split without ``val_score``.
    """
    data, family = definition.data, model.family
    faults = []
    if data.min_context_length not in (None, data.context_length) and not model.reads_masks:
        rule = f"be null to train this {family}, which reads whole contexts"
        remedy = "remove it, choose a shorter context_length, or a model that reads masks"
        faults.append(Fault("data.min_context_length", rule, data.min_context_length, remedy))
    if data.split.val_select_fraction == 1:
        rule = "be below 1 to train a model: the verdict rests on val_score, which would be empty"
        faults.append(Fault("data.split.val_select_fraction", rule, 1, "try 0.5"))
    raise_faults(faults)
    return data.task


def preflight(
    parameters: Mapping[str, Any],
    *,
    budgets: Iterable[str],
    load_bars: Callable[[], Any],
    environment: str | None,
) -> list[Check]:
    """Run every check, whatever the others find.

    Parameters
    ----------
    parameters : mapping
        Resolved, typed parameters.
    budgets : iterable of str
        Budgets of the sweep; the largest one's largest architecture takes one real step.
    load_bars : callable
        Loads and validates the experiment's bars.
    """
    data, execution = Path(group(parameters, "paths").data), group(parameters, "execution")
    model = parse_model_config(parameters["model"])
    checks: list[tuple[str, Callable[[], str]]] = [
        ("device", lambda: require_device(execution, environment=environment)),
        ("task", lambda: require_trainable(group(parameters, "definition"), model)),
        ("workers", lambda: require_workers(group(parameters, "hpo"), group(parameters, "paths"))),
        ("free memory", _memory),
        ("free disk", lambda: _disk(data)),
        ("data folder writable", lambda: _writable(data)),
        ("bars", lambda: f"{len(load_bars()):,} bars, valid"),
        ("largest architecture, one step", lambda: _largest_step(parameters, budgets)),
    ]
    return [_run(name, check) for name, check in checks]


def require(checks: Iterable[Check]) -> None:
    """Raise every failed check's fault at once."""
    failed = [check for check in checks if check.fault is not None]
    raise_faults([check.fault for check in failed if check.fault], "pre-flight found" if failed else "")


def _run(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, check())
    except Exception as error:
        fault = user_fault(error)
        if fault is None:
            raise
        return Check(name, "", FinscaleError(fault))


def _memory() -> str:
    free = psutil.virtual_memory().available / 2**30
    if free < _MIN_MEMORY_GIB:
        raise Fault(
            "free memory", f"be at least {_MIN_MEMORY_GIB} GiB", f"{free:.2f} GiB", "close other programs"
        )
    return f"{free:.1f} GiB"


def _disk(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / 2**30
    if free < _MIN_DISK_GIB:
        remedy = f"make room, or set paths.data to another disk (now {folder})"
        raise Fault("free disk", f"be at least {_MIN_DISK_GIB} GiB", f"{free:.2f} GiB", remedy)
    return f"{free:.1f} GiB"


def _writable(folder: Path) -> str:
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            return str(folder)
    except OSError as error:
        raise Fault("data folder", "be writable", str(error), "change its owner, or set paths.data") from None


def _largest_step(parameters: Mapping[str, Any], budgets: Iterable[str]) -> str:
    """Fit and step the largest admissible architecture of the largest budget on the real device."""
    from finscale.archgrid.base import parse_grid_base
    from finscale.archgrid.batching import choose_batch
    from finscale.archgrid.enumerate import enumerate_grid

    data, execution = group(parameters, "definition").data, group(parameters, "execution")
    n_features = len(parameters["feature_sets"][data.feature_set])
    sizes = {"n_features": n_features, "context_length": data.context_length}
    base, tolerance = parse_grid_base(parameters["model"]), group(parameters, "grid").tolerance
    for budget in sorted(map(parse_budget, budgets)):
        grid = enumerate_grid(budget, **sizes, base=base, tolerance=tolerance)
    largest = grid.iloc[-1]
    config = parse_model_config(json.loads(largest["config"]))
    batch = choose_batch(
        "measured",
        config,
        **sizes,
        effective_batch_size=group(parameters, "training").effective_batch_size,
        device=str(resolve_device(execution)),
        precision=execution.precision,
    )
    return f"N={largest['n_params']:,} trains with micro-batches of {batch.micro_batch_size}"
