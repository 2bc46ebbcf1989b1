"""From a proposal to what a trial runs: its run specification, its file, its payload."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from finscale.archgrid.batching import BatchConfig, BatchProvider, choose_batch, split_batch
from finscale.core.budgets import Cell
from finscale.core.errors import Fault, raise_faults
from finscale.core.hashing import content_hash
from finscale.core.seeding import derive
from finscale.models.config import ModelConfig, parse_model_config
from finscale.search.config import SearchConfig
from finscale.search.driver import TrialPlan, trial_directory
from finscale.search.proposals import Proposal
from finscale.search.space import SearchSpace
from finscale.search.study import StudyIdentity
from finscale.training.config import ExecutionConfig, TrainingConfig, resolve_device
from finscale.training.run_spec import Provenance, RunSpec, check_data, plan_run, write_run_spec
from finscale.windows.data import load_windows
from finscale.windows.experiment import ExperimentConfig
from finscale.windows.view import WindowView, view_windows

__all__ = ["Planner", "identify", "require_processes", "training_config"]

_NEUTRAL: Any = {
    **dict.fromkeys(("title", "mlflow_experiment", "wandb_project"), True),
    "data": {"split", "path", "allow_few_positives"},
}


def training_config(defaults: Mapping[str, Any], searched: Mapping[str, Any]) -> TrainingConfig:
    """Join what every trial shares with what one of them drew, which stands before a shared default.

    Raises
    ------
    FinscaleError
        When a value is unknown or faulty, or does not go with the others; every fault at once.
    """
    drawn = {name: value for name, value in searched.items() if name in TrainingConfig.model_fields}
    return TrainingConfig.read({**defaults, **drawn}, subject="training")


def identify(
    *,
    experiment: ExperimentConfig,
    cell: Cell,
    space: SearchSpace,
    grid: pd.DataFrame,
    training: TrainingConfig,
    searched: Collection[str],
    data_hash: str,
) -> StudyIdentity:
    """Hash what makes two trials of a cell comparable; titles and trackers do not take part."""
    shared = training.model_dump(mode="json", exclude=set(searched))
    return StudyIdentity(
        experiment=content_hash(experiment.model_dump(mode="json", exclude=_NEUTRAL)),
        cell=cell.id,
        space=content_hash(space),
        split=content_hash(experiment.data.split),
        grid=str(grid["grid_hash"].iloc[0]),
        training=content_hash(shared),
        data=data_hash,
    )


def require_processes(
    config: SearchConfig, execution: ExecutionConfig, *, models: Iterable[Mapping[str, Any]]
) -> None:
    """Refuse what several processes cannot train together, or one cannot train alone.

    Parameters
    ----------
    models : iterable of mapping
        Configurations of all that may be trained.

    Raises
    ------
    FinscaleError
        When the number of processes does not go with the strategy, the device, the GPUs of this machine or a
        model; every fault at once.
    """
    n_processes, strategy = config.n_processes, execution.strategy
    if (n_processes > 1) == (strategy == "one"):
        rule = "be ddp or fsdp" if n_processes > 1 else "be one"
        remedy = "set it so, under execution in conf" if n_processes > 1 else "set hpo.n_processes=2, or more"
        raise Fault("execution.strategy", f"{rule} where hpo.n_processes is {n_processes}", strategy, remedy)
    if n_processes == 1:
        return
    faults = [*_device_faults(config, resolve_device(execution).type)]
    if any(model.get("norm") == "batch_norm" for model in models):
        rule = f"be layer_norm or rms_norm where hpo.n_processes is {n_processes}"
        faults.append(
            Fault("the model's norm", rule, "batch_norm", "set hpo.n_processes=1, and strategy=one")
        )
    raise_faults(faults)


def _device_faults(config: SearchConfig, kind: str) -> Iterator[Fault]:
    """Yield what keeps each process from a device of its own."""
    if kind == "mps":
        yield Fault("hpo.n_processes", "be 1 on mps", config.n_processes, "leave it out, or set device=cpu")
    if kind == "cuda" and config.executor == "ray" and config.n_gpus == 0:
        rule = "be 1 where several processes train on cuda"
        yield Fault("hpo.n_gpus", rule, config.n_gpus, "set hpo.n_gpus=1, or device=cpu")
    if kind == "cuda" and config.executor == "process":
        yield from _too_few_gpus(config)


def _too_few_gpus(config: SearchConfig) -> Iterator[Fault]:
    import torch

    n_wanted, n_found = (config.n_slots or 1) * config.n_processes, torch.cuda.device_count()
    if n_wanted > n_found:
        rule = f"be {n_found} at most, the GPUs of this machine"
        remedy = "set hpo.n_workers=1" if config.n_processes <= n_found else f"set hpo.n_processes={n_found}"
        yield Fault("hpo.n_workers times hpo.n_processes", rule, n_wanted, remedy)


@dataclass(frozen=True)
class Planner:
    """Plan the trials of one study.

    Parameters
    ----------
    windows_directory, study_directory : Path
        Where trials read, and where their files go.
    n_features : int
        F of the windows.
    provenance : Provenance
        With the study's config_hash.
    n_sharing : int
        Attempts that share the memory of one device.
    seed : int
        A trial trains with a seed derived from it and the trial's number.
    """

    experiment: ExperimentConfig
    cell: Cell
    windows_directory: Path
    study_directory: Path
    n_features: int
    execution: ExecutionConfig
    training_defaults: Mapping[str, Any]
    provenance: Provenance
    batch_provider: BatchProvider
    n_sharing: int
    seed: int

    def plan(self, number: int, proposal: Proposal, batch: BatchConfig | None = None) -> TrialPlan:
        """Write the trial's file and return its plan.

        ``batch`` is what earlier attempts came down to, its effective size included; None asks the provider.
        """
        spec = self.spec(number, proposal, batch)
        write_run_spec(trial_directory(self.study_directory, number).with_suffix(".yaml"), spec)
        payload = {
            "spec": spec.model_dump(mode="json"),
            "batch": spec.batch.model_dump(),
            "windows": str(self.windows_directory),
            "execution": self.execution.model_dump(mode="json"),
        }
        origin = self.provenance.model_dump(exclude={"created_at", "dirty"})
        described = {
            "seed": spec.seed,
            "model_family": spec.model.family,
            "epochs": spec.training.epochs,
        }
        return TrialPlan(payload, {**described, **origin})

    def check(self, proposal: Proposal) -> None:
        """Refuse windows that are not those of this study, before the first trial; every fault at once."""
        spec = self.spec(0, proposal)
        check_data(spec, view_windows(load_windows(self.windows_directory), spec.view))

    def spec(self, number: int, proposal: Proposal, batch: BatchConfig | None = None) -> RunSpec:
        """Return what trial ``number`` would train; nothing is written."""
        row, training = proposal.row, training_config(self.training_defaults, proposal.training)
        dropout = {name: value for name, value in proposal.training.items() if name == "dropout"}
        model, view = parse_model_config({**json.loads(row["config"]), **dropout}), _view(row)
        batch = batch or self._batch(model, view, training.effective_batch_size)
        return plan_run(
            model,
            training.model_copy(update={"effective_batch_size": batch.effective_batch_size}),
            experiment=self.experiment,
            cell=self.cell,
            n_features=self.n_features,
            batch=batch,
            seed=derive(self.seed, "trial", number) % 2**31,
            view=view,
            provenance=self.provenance,
        )

    def _batch(self, model: ModelConfig, view: WindowView | None, effective_batch_size: int) -> BatchConfig:
        """Advise a micro-batch; a model for which none fits is tried with one window, and recorded as OOM."""
        length = self.experiment.data.context_length
        try:
            return choose_batch(
                self.batch_provider,
                model,
                **(view or WindowView()).sizes(n_features=self.n_features, context_length=length),
                effective_batch_size=effective_batch_size,
                device=str(resolve_device(self.execution)),
                precision=self.execution.precision,
                n_sharing=self.n_sharing,
            )
        except Fault as fault:
            if fault.subject != "model":
                raise
            return split_batch(1, effective_batch_size=effective_batch_size)


def _view(row: Mapping[str, Any]) -> WindowView | None:
    """The part of the windows that a candidate reads; where no data is searched, all of them."""
    written = row.get("view")
    return None if written is None else WindowView.model_validate_json(written)
