"""What a search would be, before any of it is run: its size, its candidates, its memory and its cost."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial
from pydantic import Field

from finscale.archgrid.enumerate import MEMORY_BATCH_SIZE
from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.search.config import SearchConfig
from finscale.search.dimensions import values_of
from finscale.search.extremes import Corner, corners
from finscale.search.pace import flops_per_second
from finscale.search.planner import training_config
from finscale.search.proposals import Proposer, is_counted
from finscale.search.settled import settle
from finscale.search.study import has_study, load_study
from finscale.training.config import TrainingConfig
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig

__all__ = ["Reason", "Survey", "recorded_trials", "survey_search", "windows_read"]

_SHOWN = 3


class Reason(Record):
    """A rule that combinations break: how many of them, and the first few in words."""

    rule: str
    n: int
    first: tuple[str, ...]


class Survey(Record):
    """A search that was not run.

    Parameters
    ----------
    n_grid, n_product, n_duplicates, n_candidates : int
        Rows of the grid; with their options; those that would train another one's model; what is left.
    refused : tuple of Reason
        Why the rest is no candidate.
    n_combinations : int or None
        Candidates times finite training dimensions; None where a dimension is continuous.
    continuous : tuple of str
        Those dimensions.
    n_trials, n_finished : int
        Trials of the search, and how many of them a study beside has already.
    memory_bytes : tuple of float
        Predicted peak of a training step of 128 windows in fp32: least, median and most of the candidates.
    typical_epochs : int
        Epochs for which the cost is counted; early stopping is left out of it.
    flops_per_trial, flops_left : float
        Floating-point operations of a trial over the candidates' mean, and of all trials that are left.
    hours_left : float or None
        At the speed of the trials that have finished, all workers busy; None before the first.
    corners : tuple of Corner
        The six extremes, and which of them the candidates have.
    """

    n_grid: int
    n_product: int
    n_duplicates: int
    n_candidates: int
    refused: tuple[Reason, ...]
    n_combinations: int | None
    continuous: tuple[str, ...]
    n_trials: int
    n_finished: int
    memory_bytes: tuple[float, float, float]
    memory_windows: int = Field(default=MEMORY_BATCH_SIZE)
    typical_epochs: int
    flops_per_trial: float
    flops_left: float
    hours_left: float | None
    corners: tuple[Corner, ...]


def survey_search(
    config: SearchConfig,
    *,
    experiment: ExperimentConfig,
    grid: pd.DataFrame,
    tolerance: float,
    windows: WindowData,
    study_directory: Path,
    training_defaults: Mapping[str, Any],
) -> tuple[Survey, pd.DataFrame]:
    """Return what `finscale.search.run.run_search` with the same arguments would do, and its candidates.

    Nothing is written.

    Raises
    ------
    FinscaleError
        What the search would raise before its first trial.
    """
    settled = settle(
        config.space,
        experiment=experiment,
        grid=grid,
        features=windows.spec.features,
        tolerance=tolerance,
        training_defaults=training_defaults,
    )
    found, table = settled.candidates, settled.candidates.table
    proposer = Proposer(table, config, settled.space, seed=experiment.seed)
    training = training_config(training_defaults, proposer.typical().training)
    trials = recorded_trials(study_directory)
    n_finished = sum(map(is_counted, trials))
    per_trial = float(_flops(table, training, windows).mean())
    left = per_trial * max(0, proposer.n_trials - n_finished)
    speed = flops_per_second(trials, table)
    memory = table["memory_bytes"]
    survey = Survey(
        n_grid=len(grid),
        n_product=found.n_product,
        n_duplicates=found.n_duplicates,
        n_candidates=len(table),
        refused=tuple(_reasons(found.refused)),
        n_combinations=int(proposer.n_combinations) if math.isfinite(proposer.n_combinations) else None,
        continuous=tuple(name for name, each in settled.space.free.items() if values_of(each) is None),
        n_trials=proposer.n_trials,
        n_finished=n_finished,
        memory_bytes=(float(memory.min()), float(memory.median()), float(memory.max())),
        typical_epochs=_n_epochs(training, len(windows.origins["train"])),
        flops_per_trial=per_trial,
        flops_left=left,
        hours_left=left / speed / config.n_slots / 3600 if speed and config.n_slots else None,
        corners=corners(table),
    )
    return survey, table


def recorded_trials(study_directory: Path) -> Sequence[FrozenTrial]:
    """Return the trials of a study, none where there is no study."""
    exists = has_study(study_directory)
    return load_study(study_directory).get_trials(deepcopy=False) if exists else ()


def windows_read(training: TrainingConfig, n_train: int, *, epochs: float) -> int:
    """Return how many windows a training of so many epochs reads at most, caps included."""
    epochs = min(epochs, training.max_epochs or epochs)
    steps = training.max_steps or math.inf
    return int(min(epochs * n_train, steps * training.effective_batch_size))


def _n_epochs(training: TrainingConfig, n_train: int) -> int:
    return -(-windows_read(training, n_train, epochs=training.epochs) // n_train)


def _flops(table: pd.DataFrame, training: TrainingConfig, windows: WindowData) -> pd.Series:
    """Operations of one trial of every candidate, its validation included."""
    n_train, n_validation = (len(windows.origins[split]) for split in ("train", "val_select"))
    n_scored = _n_epochs(training, n_train) * n_validation
    return (
        table["flops_training"] * windows_read(training, n_train, epochs=training.epochs)
        + table["flops_forward"] * n_scored
    )


def _reasons(refused: Sequence[Fault]) -> Iterator[Reason]:
    """Group faults by their rule, the commonest first."""
    by_rule: dict[str, list[Fault]] = {}
    for fault in refused:
        by_rule.setdefault(fault.rule, []).append(fault)
    for rule, faults in sorted(by_rule.items(), key=lambda item: -len(item[1])):
        yield Reason(rule=rule, n=len(faults), first=tuple(map(str, faults[:_SHOWN])))
