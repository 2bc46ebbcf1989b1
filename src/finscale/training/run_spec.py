"""The full specification of one run: one JSON or YAML file, read and never executed. No torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import AwareDatetime, Field, field_validator, model_validator

from finscale.archgrid.batching import BatchConfig
from finscale.core.budgets import Cell, format_budget, parse_budget, parse_horizon
from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.core.files import write_text
from finscale.core.hashing import content_hash
from finscale.models.config import ModelConfig
from finscale.models.counting import arch_id, count_params
from finscale.training.config import TrainingConfig
from finscale.training.heads import head_fault
from finscale.training.inputs import columns_fault
from finscale.training.loss_options import loss_faults
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig
from finscale.windows.view import WindowView

__all__ = [
    "Provenance",
    "RunSpec",
    "check_data",
    "fingerprint",
    "plan_run",
    "read_run_spec",
    "write_run_spec",
]

_REMEDY = "name a run_spec.json or a trial_0007.yaml"


class Provenance(Record):
    """Where a run comes from.

    Parameters
    ----------
    data_hash : str
        Hash of bars and feature set; a run on other data is refused.
    config_hash : str
        Hash of the study the run belongs to, empty outside a study.
    commit, dirty, environment, created_at
        Code version, whether it had local changes, kedro environment and instant of writing.
    """

    data_hash: str
    config_hash: str = ""
    commit: str = "unknown"
    dirty: bool = False
    environment: str = "base"
    created_at: AwareDatetime | None = None


class RunSpec(Record):
    """Everything that one training needs besides its windows and a machine.

    Parameters
    ----------
    experiment, budget, horizon
        What is asked, and the cell it belongs to.
    arch_id, n_params, model
        The architecture with its dropout; ``n_params`` is N as counted.
    training, batch, seed
        How it is trained. ``batch`` is advice, re-measured on the present device, unless ``exact``.
    exact : bool
        Forbid any change of the batch configuration.
    fold : int
        Of a walk-forward, counted from 0.
    view : WindowView or None
        The part of the experiment's windows that the model reads; None is all of them.
    """

    experiment: ExperimentConfig
    budget: str
    horizon: int
    arch_id: str
    n_params: int = Field(ge=1)
    model: ModelConfig
    training: TrainingConfig
    batch: BatchConfig
    seed: int = Field(ge=0)
    exact: bool = False
    fold: int = Field(default=0, ge=0)
    view: WindowView | None = None
    provenance: Provenance

    @field_validator("budget", mode="before")
    @classmethod
    def _canonical_budget(cls, budget: Any) -> str:
        return format_budget(parse_budget(budget))

    @field_validator("horizon", mode="before")
    @classmethod
    def _whole_bars(cls, horizon: Any) -> int:
        return parse_horizon(horizon)

    @model_validator(mode="after")
    def _one_effective_batch(self) -> "RunSpec":
        asked, planned = self.training.effective_batch_size, self.batch.effective_batch_size
        if asked != planned:
            raise Fault("batch.effective_batch_size", f"equal training.effective_batch_size={asked}", planned)
        return self

    @property
    def cell(self) -> Cell:
        """The (budget, horizon) of the experiment matrix."""
        return Cell.parse(self.budget, self.horizon)

    def to_json(self) -> str:
        """Return the record as indented JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"

    def to_yaml(self) -> str:
        """Return the record as YAML, in the order of its fields."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def plan_run(
    model: ModelConfig,
    training: TrainingConfig,
    *,
    experiment: ExperimentConfig,
    cell: Cell,
    n_features: int,
    batch: BatchConfig,
    seed: int,
    fold: int = 0,
    view: WindowView | None = None,
    provenance: Provenance,
) -> RunSpec:
    """Return the specification of one training; arch_id and N are counted from the model itself.

    ``n_features`` are those of the windows, before the view.
    """
    seen = view or WindowView()
    sizes = seen.sizes(n_features=n_features, context_length=experiment.data.context_length)
    return RunSpec(
        experiment=experiment,
        budget=cell.budget,
        horizon=cell.horizon,
        arch_id=arch_id(model, **sizes),
        n_params=count_params(model, **sizes).total,
        model=model,
        training=training,
        batch=batch,
        seed=seed,
        fold=fold,
        view=view,
        provenance=provenance,
    )


def fingerprint(spec: RunSpec) -> str:
    """Return the hash of all that decides the numbers of a run; a checkpoint is resumed under it alone.

    Left out: names, titles and provenance; the caps, so that a capped run can go on; and, unless ``exact``,
    how the effective batch is cut into micro-batches, so that a run can go on where memory is scarcer.
    """
    view = {} if spec.view is None else {"view": spec.view}
    return content_hash(
        {
            **view,
            "data": spec.experiment.data.model_dump(mode="json", exclude={"path", "allow_few_positives"}),
            "data_hash": spec.provenance.data_hash,
            "horizon": spec.horizon,
            "model": spec.model,
            "training": spec.training.model_dump(mode="json", exclude={"max_steps", "max_epochs"}),
            "batch": spec.batch if spec.exact else spec.batch.effective_batch_size,
            "seed": spec.seed,
            "fold": spec.fold,
        }
    )


def check_data(spec: RunSpec, data: WindowData) -> None:
    """Refuse windows, as the view shows them, or an architecture that are not those of ``spec``.

    Raises
    ------
    FinscaleError
        With every fault at once: when task, touch, horizon, context, features of the view, timescale, fold,
        data hash or arch_id differ, the model does not read the windows' categorical columns, or the head,
        or an option of the loss, is not one of the task.
    """
    asked, found, view = spec.experiment.data, data.spec, spec.view or WindowView()
    length = view.context_length or asked.context_length
    shortest = min(asked.min_context_length or length, length)
    architecture = arch_id(spec.model, n_features=data.n_features, context_length=found.context_length)
    pairs = [
        ("task", asked.task, found.task),
        ("touch", asked.touch, found.touch),
        ("horizon", spec.horizon, found.horizon),
        ("context_length", length, found.context_length),
        ("view.features", view.features or found.features, found.features),
        ("timescale", asked.timescale, found.timescale),
        ("context_reach", asked.context_reach, found.context_reach),
        ("min_context_length", shortest, found.min_context_length),
        ("fold", spec.fold, found.fold),
        ("data_hash", spec.provenance.data_hash, found.data_hash),
        ("arch_id", spec.arch_id, architecture),
    ]
    remedy = "rebuild the windows of this run, or make a new run_spec"
    judged = (head_fault(spec.model, found), columns_fault(spec.model, found))
    differences = [
        Fault(f"run_spec.{name}", f"be that of the windows ({theirs})", ours, remedy)
        for name, ours, theirs in pairs
        if ours != theirs
    ]
    raise_faults([*differences, *filter(None, judged), *loss_faults(spec.training, found)])


def read_run_spec(path: Path) -> RunSpec:
    """Read a specification from ``.json``, ``.yaml`` or ``.yml``.

    Raises
    ------
    FinscaleError
        When the file is missing or malformed, or with every fault of its content at once.
    """
    values = _parse(path)
    if not isinstance(values, Mapping):
        raise Fault(str(path), "hold a mapping of run_spec keys", type(values).__name__, _REMEDY)
    return RunSpec.read(values, subject="run_spec")


def write_run_spec(path: Path, spec: RunSpec) -> None:
    """Write atomically, as YAML where the name ends so and as JSON otherwise."""
    write_text(path, spec.to_yaml() if path.suffix in {".yaml", ".yml"} else spec.to_json())


def _parse(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.safe_load(text) if path.suffix in {".yaml", ".yml"} else json.loads(text)
    except OSError as error:
        raise Fault(str(path), "be a readable file", error.strerror or str(error), _REMEDY) from None
    except (yaml.YAMLError, ValueError) as error:
        raise Fault(str(path), "be valid JSON or YAML", " ".join(str(error).split()), _REMEDY) from None
