"""best_params.json: the winner of a cell in its published form, always rebuildable from the study."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import AwareDatetime, Field

from finscale.core.budgets import Cell
from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.core.files import read_json, write_json
from finscale.search.proposals import has_result
from finscale.search.study import load_study
from finscale.search.trials import dimensions_of

__all__ = ["BEST_FILE", "BestArchitecture", "BestBatch", "BestParams", "BestTraining"]
__all__ += ["best_of", "best_trial", "lowest", "read_best_params", "rebuild_best", "write_best"]

BEST_FILE = "best_params.json"
_logger = logging.getLogger(__name__)


class BestArchitecture(Record):
    """The winning architecture; ``param_count`` is its true N."""

    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    param_count: int


class BestTraining(Record):
    """The training parameters it won with."""

    learning_rate: float
    epochs: int
    weight_decay: float
    warmup_steps: int
    dropout: float


class BestBatch(Record):
    """The batch configuration as executed; ``batch_size`` is the micro-batch."""

    batch_size: int
    accumulation_steps: int
    effective_batch_size: int


class BestParams(Record):
    """The winner of a cell.

    Parameters
    ----------
    architecture, training, batch_config, best_val_loss
        The published form. The loss is on ``val_select``.
        A recovered winner may lack its batch configuration, and its seed.
    searched : dict
        Every other dimension of the study, with the winner's value.
    n_trials : int
        Finished trials of the study when this was written, supplemental ones included.
    timestamp : datetime
        When the winning trial finished.
    stopped_epoch : int or None
        Epochs the winning trial ran, where it reported them.
    baselines : dict
        Loss of each baseline on the same rows.
    """

    architecture: BestArchitecture
    training: BestTraining
    searched: dict[str, Any] = Field(default_factory=dict)
    batch_config: BestBatch | None
    best_val_loss: float
    n_trials: int
    timestamp: AwareDatetime
    arch_id: str
    model_family: str
    study_name: str
    trial_number: int
    seed: int | None
    data_hash: str
    config_hash: str
    stopped_epoch: int | None
    baselines: dict[str, float] = Field(default_factory=dict)


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the complete trial of the lowest value, the earliest among equals; None before the first."""
    return lowest(study.get_trials(deepcopy=False))


def lowest(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the same of some trials."""
    complete = (trial for trial in trials if trial.state == TrialState.COMPLETE)
    return min(complete, key=lambda trial: (trial.value, trial.number), default=None)


def best_of(study: optuna.Study) -> BestParams | None:
    """Return the winner of a study; None before a trial is complete."""
    trial = best_trial(study)
    if trial is None:
        return None
    known = {**study.user_attrs.get("fixed", {}), **trial.params, **trial.user_attrs}
    named = {"param_count": known["n_params"], "batch_size": known.get("micro_batch_size")}
    return BestParams(
        architecture=BestArchitecture(**_fields_of(BestArchitecture, {**known, **named})),
        training=BestTraining(**_fields_of(BestTraining, known)),
        searched=_searched(study, trial),
        batch_config=_batch({**known, **named}),
        best_val_loss=trial.value,
        n_trials=sum(map(has_result, study.get_trials(deepcopy=False))),
        timestamp=trial.datetime_complete.astimezone(UTC),
        study_name=study.study_name,
        trial_number=trial.number,
        seed=known.get("seed"),
        stopped_epoch=known.get("stopped_epoch"),
        baselines=study.user_attrs["baselines"],
        **{name: known[name] for name in ("arch_id", "model_family", "data_hash", "config_hash")},
    )


def write_best(study: optuna.Study, path: Path) -> BestParams | None:
    """Write the winner atomically; nothing before a trial is complete."""
    best = best_of(study)
    if best is not None:
        write_json(path, best.model_dump(mode="json"))
    return best


def rebuild_best(study_directory: Path) -> BestParams | None:
    """Write best_params.json anew from the study beside it, and say so."""
    best = write_best(load_study(study_directory), study_directory / BEST_FILE)
    if best is not None:
        path = study_directory / BEST_FILE
        _logger.warning("%s was missing or broken: rebuilt from its study", path)
    return best


def read_best_params(study_directory: Path, *, cell: Cell, experiment: str | None = None) -> BestParams:
    """Read the winner of a cell.

    Parameters
    ----------
    study_directory : Path
        Of the cell's search.
    cell : Cell
        For the remedy: the command that makes the file.
    experiment : str, optional
        Name of the experiment where it is not the default one; for the same remedy.

    Raises
    ------
    FinscaleError
        When the file is missing or malformed; the message names the command that makes it.
    """
    chosen = f",experiment={experiment}" if experiment else ""
    command = f"kedro run --pipeline hpo --params budget={cell.budget},horizon={cell.horizon}{chosen}"
    path = study_directory / BEST_FILE
    values = read_json(path, remedy=f"make it with: {command}")
    if not isinstance(values, dict):
        raise Fault(str(path), "hold a JSON object", type(values).__name__, f"make it with: {command}")
    return BestParams.read(values, subject=str(path))


def _fields_of(record: type[Record], known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: known[name] for name in record.model_fields}


def _batch(known: Mapping[str, Any]) -> BestBatch | None:
    """Return what was executed; None of a recovered trial whose source does not tell."""
    return None if known["batch_size"] is None else BestBatch(**_fields_of(BestBatch, known))


def _searched(study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
    """Return the dimensions that the published form has no place for; inactive ones are absent."""
    published = {*BestArchitecture.model_fields, *BestTraining.model_fields}
    # what was executed may have another name (AdamW for adamw), so that what was asked for comes last
    used = trial.user_attrs
    known = {**used, **trial.params}
    # under hpo.oom_policy=halve_batch it may have trained with a smaller effective batch than asked for
    size, asked = used.get("effective_batch_size"), used.get("requested_effective_batch_size")
    halved = {"effective_batch_size": size} if used.get("n_halvings") and size != asked else {}
    names = (*dimensions_of(study), *halved)
    found = {**known, **halved}
    return {name: found[name] for name in names if name in found and name not in published}
