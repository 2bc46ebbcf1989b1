"""From what was typed to what will run: one resolved, validated definition before any node starts."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from finscale.archgrid.base import DIMENSIONS, FAMILIES, GridConfig, grid_base
from finscale.core.budgets import Cell, parse_budget, parse_horizon
from finscale.core.config import Record
from finscale.core.errors import Fault, FinscaleError, raise_faults, suggest
from finscale.longcontext.config import read_block
from finscale.longcontext.context_sweep import ContextSweepConfig
from finscale.runtime.shared_store import check_address
from finscale.search.config import SearchConfig
from finscale.search.space import SearchSpace
from finscale.training.config import ExecutionConfig, SharedTraining
from finscale.training.export_config import ExportSettings
from finscale.training.run_spec import RunSpec
from finscale.windows.experiment import ExperimentConfig

__all__ = [
    "RUNTIME_KEYS",
    "SET_ELSEWHERE",
    "GridSettings",
    "Paths",
    "ScalingSettings",
    "SweepSettings",
    "TrainingSettings",
    "check_runtime_params",
    "group",
    "resolve",
]

RUNTIME_KEYS = (
    *("experiment", "budget", "horizon", "device", "seed", "run_spec", "allow_defaults", "long_context"),
    *("long_context_blocks", "ablation_value", "hpo", "training", "data", "scaling", "context_sweep"),
)
_FILE_KEYS = ("paths", "sweep", "grid", "model", "execution", "experiments", "feature_sets")


class Paths(Record):
    """Where the run's files live.

    Parameters
    ----------
    data : str
        Folder of everything that a run reads and writes.
    shared : str or None
        Address (``s3://bucket/prefix``, ``file:///mnt/shared``) through which windows and trials reach the
        nodes of a cluster that do not see ``data``. None: all of them see it.
    """

    data: str
    shared: Annotated[str, AfterValidator(check_address)] | None = None


class SweepSettings(Record):
    """The cells of a sweep.

    Parameters
    ----------
    budgets, horizons : tuple of str, tuple of int
        Every budget is run at every horizon.
    at_once : int
        Cells that run at the same time, each in a process of its own. One machine then trains ``at_once``
        times ``hpo.n_workers`` attempts, at most one per core; on a Ray cluster cells share its room.
    """

    budgets: tuple[str, ...] = Field(min_length=1)
    horizons: tuple[int, ...] = Field(min_length=1)
    at_once: int = Field(default=1, ge=1)


class GridSettings(Record):
    """Which architectures are admissible."""

    tolerance: float = Field(default=0.25, gt=0, lt=1)


class TrainingSettings(SharedTraining, ExportSettings):
    """What every training of the experiment shares; the searched values come from the trial.

    Parameters
    ----------
    n_seeds : int
        Trainings of a cell's winner.
    conformal : bool or None
        Of quantiles: move those of the winner until their intervals cover as they should on ``val_score``, by
        conformalized quantile regression; test tables keep the raw ones beside them. None does so where the
        task is ``quantile`` and ``val_score`` has rows.
    """

    n_seeds: int = Field(default=3, ge=1)
    conformal: bool | None = None

    @property
    def shared(self) -> dict[str, Any]:
        """The fields of `TrainingConfig` among them."""
        return self.model_dump(include=set(SharedTraining.model_fields))


class ScalingSettings(Record):
    """How the verdict is drawn."""

    n_bootstrap: int = Field(default=2000, ge=100)


_GROUPS: dict[str, type[Record]] = {
    "paths": Paths,
    "sweep": SweepSettings,
    "grid": GridSettings,
    "training": TrainingSettings,
    "execution": ExecutionConfig,
    "hpo": SearchConfig,
    "scaling": ScalingSettings,
    "context_sweep": ContextSweepConfig,
}
_RESOLVED: dict[str, type[Record]] = {
    **_GROUPS,
    "cell": Cell,
    "definition": ExperimentConfig,
}
SET_ELSEWHERE = {
    **dict.fromkeys(DIMENSIONS, "the grid lists it"),
    "dropout": "hpo.space.dropout searches it",
    "head": "the task says it",
    "session_bars": "the windows say it",
    "family": "the experiment's model_family says it",
}
"""Keys of a model's config that its block under ``model`` leaves to others."""


def check_runtime_params(params: Mapping[str, Any]) -> None:
    """Refuse an unknown top-level key of ``--params`` with the nearest legal one."""
    unknown = [key for key in params if key not in RUNTIME_KEYS]
    rule = "be a known parameter"
    raise_faults(Fault(f"--params {key}", rule, params[key], suggest(key, RUNTIME_KEYS)) for key in unknown)


def resolve(
    parameters: Mapping[str, Any],
    *,
    sources: Iterable[str] | None,
    run_spec: RunSpec | None = None,
    typed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Validate every group and add what nodes read: ``definition`` (the experiment), ``cell``, ``model``.

    ``model`` goes in as one block of settings per family, and comes out as the config of the experiment's.

    Parameters
    ----------
    parameters : mapping
        Kedro's merged parameters, runtime parameters included.
    sources : iterable of str, optional
        Names of the bars in the catalog (``sp500`` for an entry ``bars_sp500``); None skips that check.
    run_spec : RunSpec, optional
        A run to reproduce: its experiment is the definition and its model the model, whatever conf says.
    typed : mapping, optional
        The part of the parameters that came with ``--params``.

    Raises
    ------
    FinscaleError
        With every fault found, at once.
    """
    faults = _Faults()
    legal = (*RUNTIME_KEYS, *_FILE_KEYS)
    for key in parameters:
        if key not in legal:
            faults.add(Fault(f"parameters.{key}", "be a known key", parameters[key], suggest(key, legal)))
    faults.catch(lambda: parse_horizon(parameters["horizon"]))
    n_budget = faults.catch(lambda: parse_budget(parameters["budget"]))
    names = None if sources is None else tuple(sources)
    definition = run_spec.experiment if run_spec else faults.catch(lambda: _experiment(parameters, names))
    groups = {name: faults.catch(functools.partial(_read_group, parameters, name)) for name in _GROUPS}
    models = _models(parameters, faults)
    space = groups["hpo"].space if groups["hpo"] else _space(parameters)
    if definition and space and groups["training"] and not run_spec:
        shared = groups["training"].shared
        faults.catch(lambda: space.bind(definition.model_family, given=shared))
    faults.catch(lambda: _block(parameters, typed or {}))
    faults.raise_all()
    resolved = {name: record.model_dump(mode="json", exclude_unset=True) for name, record in groups.items()}
    return {
        **parameters,
        **resolved,
        "cell": {"n_budget": n_budget, "horizon": parse_horizon(parameters["horizon"])},
        "definition": definition.model_dump(mode="json"),
        "model": (run_spec.model if run_spec else models[definition.model_family]).model_dump(mode="json"),
    }


def group(parameters: Mapping[str, Any], name: str) -> Any:
    """Return a resolved group as its record, whether or not Kedro has typed it for some node."""
    value = parameters[name]
    return value if isinstance(value, Record) else _RESOLVED[name].model_validate(value)


class _Faults:
    """Collects the faults of several checks, so that the user sees all of them at once."""

    def __init__(self) -> None:
        self.found: list[Exception] = []

    def add(self, fault: Exception) -> None:
        self.found.append(fault)

    def catch(self, check: Callable[[], Any]) -> Any:
        try:
            return check()
        except FinscaleError as fault:
            self.add(fault)
            return None

    def raise_all(self) -> None:
        raise_faults(self.found)


def _read_group(parameters: Mapping[str, Any], name: str) -> Record:
    return _GROUPS[name].read(_group(parameters, name), subject=name)


def _group(parameters: Mapping[str, Any], name: str) -> dict[str, Any]:
    values = parameters.get(name) or {}
    if not isinstance(values, Mapping):
        raise Fault(name, "be a group of settings", values, f"write {name}.<setting>=<value>")
    if name == "execution" and parameters.get("device") is not None:
        return {**values, "device": parameters["device"]}
    return dict(values)


def _space(parameters: Mapping[str, Any]) -> SearchSpace | None:
    """The space of a search whose other settings are faulty; its own faults of form are among theirs."""
    try:
        return SearchSpace.read(_group(parameters, "hpo").get("space") or {}, subject="hpo.space")
    except FinscaleError:
        return None


def _experiment(parameters: Mapping[str, Any], sources: tuple[str, ...] | None) -> ExperimentConfig:
    name, blocks = parameters["experiment"], parameters["experiments"]
    if name not in blocks:
        raise Fault("experiment", "be defined in conf", name, suggest(str(name), blocks))
    block = dict(blocks[name])
    block["data"] = {**block.get("data", {}), **_group(parameters, "data")}
    if parameters.get("seed") is not None:
        block["seed"] = parameters["seed"]
    definition = ExperimentConfig.read({"name": name, **block}, subject="")
    faults = _Faults()
    if definition.model_family not in FAMILIES:
        rule = f"be {' or '.join(FAMILIES)}, which have a grid of architectures"
        remedy = "train it from a run_spec: kedro run --pipelines training --params run_spec=<path>"
        faults.add(Fault(f"experiments.{name}.model_family", rule, definition.model_family, remedy))
    source, legal = definition.data.source, (*(sources or ()), "file")
    if sources is not None and source not in legal:
        faults.add(Fault("data.source", "be bars of the catalog", source, suggest(source, legal)))
    if definition.data.feature_set not in parameters["feature_sets"]:
        remedy = suggest(definition.data.feature_set, parameters["feature_sets"])
        faults.add(Fault("data.feature_set", "be defined in conf", definition.data.feature_set, remedy))
    faults.raise_all()
    return definition


def _models(parameters: Mapping[str, Any], faults: _Faults) -> dict[str, GridConfig]:
    """What conf says of every family, at a grid's first architecture; all of it is checked, whatever runs."""
    blocks = faults.catch(lambda: _group(parameters, "model")) or {}
    for name in (name for name in blocks if name not in FAMILIES):
        rule = "be the settings of a family with a grid of architectures"
        faults.add(Fault(f"model.{name}", rule, blocks[name], suggest(name, FAMILIES)))
    named = {f"model.{name}": block for name, block in blocks.items()}
    return {name: faults.catch(functools.partial(_family, named, name, faults)) for name in FAMILIES}


def _family(blocks: Mapping[str, Any], name: str, faults: _Faults) -> GridConfig:
    settings = _group(blocks, f"model.{name}")
    for key in (key for key in SET_ELSEWHERE if key in settings):
        rule = f"be left out: {SET_ELSEWHERE[key]}"
        faults.add(Fault(f"model.{name}.{key}", rule, settings.pop(key), "remove it"))
    return grid_base(name, settings)


def _block(parameters: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Read the block of the long-context evaluation that is named; leaves of another one are a mistake."""
    name, blocks = parameters["long_context"], parameters["long_context_blocks"]
    if not isinstance(name, str):
        remedy = "write long_context_blocks.<block>.<setting>=<value> for a leaf of one"
        raise Fault("long_context", "name a block", name, remedy)
    changed = _group(typed, "long_context_blocks")
    rule = f"be of the block that runs, {name}"
    raise_faults(
        Fault(
            f"--params long_context_blocks.{other}", rule, value, f"correct it, or add long_context={other}"
        )
        for other, value in changed.items()
        if other != name
    )
    read_block(name, blocks, value=parameters.get("ablation_value"))
