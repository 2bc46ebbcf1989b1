"""The search of one cell, from grid and windows to best_params.json.

``run_search(config, *, experiment, cell, grid, windows_directory, study_directory, execution,
training_defaults, provenance, baselines, seed, on_event=ignore, should_stop=never) -> SearchResult``

Everything it leaves lies under ``study_directory``: ``study.db`` (the truth), ``best_params.json``,
``trials.parquet``, ``trials/trial_0007.yaml`` (a run specification that training re-runs exactly) and the
trials' own directories.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
import pandas as pd

from finscale.core.budgets import Cell
from finscale.core.config import Record
from finscale.search.best import BEST_FILE, BestParams, best_trial, write_best
from finscale.search.config import SearchConfig
from finscale.search.driver import Driver, DriverResult, SearchEvent, ignore
from finscale.search.executors import Executor, InlineExecutor, unpaused
from finscale.search.extremes import Corner, corners
from finscale.search.planner import Planner, identify, training_config
from finscale.search.processes import ProcessExecutor
from finscale.search.proposals import Proposer, is_counted
from finscale.search.study import archive_study, lease, open_study
from finscale.search.trials import describe_trial, write_trials
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import Provenance
from finscale.windows.data import load_windows
from finscale.windows.experiment import ExperimentConfig

__all__ = ["SearchResult", "never", "run_search"]

TRIALS_FILE = "trials.parquet"
MIN_RANDOM = 10
_FUNCTION = "finscale.search.objective:train_trial"
_logger = logging.getLogger(__name__)


class SearchResult(Record):
    """Where a search stands when its driver returns.

    Parameters
    ----------
    outcome : {"complete", "stopped", "failed"}
        ``stopped`` was asked to; ``failed`` spent its budget of failures.
    reason : str
        In words, unless complete.
    n_finished, n_trials : int
        Trials that count, and the total asked for.
    counts : dict
        Trials by outcome (``running`` ones wait to be adopted).
    corners : tuple of Corner
        The six extremes, and which of them the grid has.
    best : BestParams or None
        The winner so far.
    flags : tuple of str
        What a reader of the result must know.
    """

    outcome: Literal["complete", "stopped", "failed"]
    reason: str
    n_finished: int
    n_trials: int
    counts: dict[str, int]
    corners: tuple[Corner, ...]
    best: BestParams | None
    flags: tuple[str, ...]


def never() -> bool:
    """Do not stop."""
    return False


def run_search(
    config: SearchConfig,
    *,
    experiment: ExperimentConfig,
    cell: Cell,
    grid: pd.DataFrame,
    windows_directory: Path,
    study_directory: Path,
    execution: ExecutionConfig,
    training_defaults: Mapping[str, Any],
    provenance: Provenance,
    baselines: Mapping[str, float],
    seed: int,
    on_event: Callable[[SearchEvent], None] = ignore,
    should_stop: Callable[[], bool] = never,
    should_pause: Callable[[], bool] = unpaused,
) -> SearchResult:
    """Search one cell, or go on with its search.

    Parameters
    ----------
    grid : DataFrame
        Of the cell's budget, from ``archgrid.enumerate_grid``.
    windows_directory : Path
        Of the cell's experiment and horizon, from ``windows.save_windows``.
    study_directory : Path
        Belongs to this search.
    training_defaults : mapping
        Fields of `TrainingConfig` that are not searched (patience, caps, effective batch size ...).
    provenance : Provenance
        Of this session; its config_hash is replaced by the study's.
    baselines : mapping
        Loss of each baseline on ``val_select``, kept with the winner.
    seed : int
        Of the proposals; each trial trains with a seed derived from it and its number.
    on_event, should_stop : callable
        See `finscale.search.driver.Driver`; a file ``STOP_NOW`` in the study's directory stops as well.
    should_pause : callable
        While it says so, running trials wait at their next step.

    Raises
    ------
    FinscaleError
        For what must be known before the first trial: another driver, another study, bad defaults, a space
        that is too small.
    """
    proposer = Proposer(grid, config, seed=seed)
    first = proposer.typical()
    identity = identify(
        experiment=experiment,
        cell=cell,
        space=config.space,
        grid=grid,
        training=training_config(training_defaults, first.training),
        data_hash=provenance.data_hash,
    )
    planner = Planner(
        experiment=experiment,
        cell=cell,
        windows_directory=windows_directory,
        study_directory=study_directory,
        n_features=load_windows(windows_directory).n_features,
        execution=execution,
        training_defaults=training_defaults,
        provenance=provenance.model_copy(update={"config_hash": identity.config_hash}),
        batch_provider=config.batch_provider,
        seed=seed,
    )
    planner.check(first)
    with lease(study_directory):
        if config.restart:
            archive_study(study_directory)
        study = open_study(
            study_directory,
            name=f"{experiment.name}_{cell.id}",
            identity=identity,
            attributes={"baselines": dict(baselines), "cell": cell.id, "experiment": experiment.name},
        )
        ended = _drive(
            study,
            config,
            proposer,
            planner,
            on_event=on_event,
            should_stop=should_stop,
            should_pause=should_pause,
        )
        write_trials(study, study_directory / TRIALS_FILE)
        return _result(study, config, ended, corners(grid), write_best(study, study_directory / BEST_FILE))


def _drive(
    study: optuna.Study,
    config: SearchConfig,
    proposer: Proposer,
    planner: Planner,
    *,
    on_event: Callable[[SearchEvent], None],
    should_stop: Callable[[], bool],
    should_pause: Callable[[], bool],
) -> DriverResult:
    directory = planner.study_directory
    stop_now = directory / "STOP_NOW"

    def stopping() -> bool:
        return should_stop() or stop_now.exists()

    with _executor(config, on_event, stopping, should_pause) as executor:
        driver = Driver(
            study,
            proposer,
            executor,
            function=_FUNCTION,
            plan=planner.plan,
            directory=directory,
            n_trials=config.n_trials,
            max_failures=config.max_failures,
            after_tell=lambda number: _record(study, number, directory),
            on_event=on_event,
            should_stop=stopping,
        )
        result = driver.run()
    stop_now.unlink(missing_ok=True)
    return result


def _executor(
    config: SearchConfig,
    on_event: Callable[[SearchEvent], None],
    should_stop: Callable[[], bool],
    should_pause: Callable[[], bool],
) -> Executor:
    def on_report(number: int, values: Mapping[str, Any]) -> None:
        on_event(SearchEvent("progress", number, values))

    if config.executor == "inline":
        return InlineExecutor(on_report=on_report, should_stop=should_stop, should_pause=should_pause)
    return ProcessExecutor(n_slots=config.n_slots, on_report=on_report, should_pause=should_pause)


def _record(study: optuna.Study, number: int, directory: Path) -> None:
    """Log a told trial, and write the winner if it is this one."""
    _logger.info(describe_trial(study.get_trials(deepcopy=False)[number]))
    best = best_trial(study)
    if best is not None and best.number == number:
        write_best(study, directory / BEST_FILE)


def _result(
    study: optuna.Study,
    config: SearchConfig,
    ended: DriverResult,
    found_corners: tuple[Corner, ...],
    best: BestParams | None,
) -> SearchResult:
    trials = study.get_trials(deepcopy=False)
    counted = [trial for trial in trials if is_counted(trial)]
    n_random = sum(trial.user_attrs["kind"] == "random" for trial in counted)
    few = f"only {n_random} random trials; the analysis needs {MIN_RANDOM}"
    return SearchResult(
        outcome=ended.outcome,
        reason=ended.reason,
        n_finished=len(counted),
        n_trials=config.n_trials,
        counts=dict(Counter(trial.user_attrs.get("outcome", "running") for trial in trials)),
        corners=found_corners,
        best=best,
        flags=(few,) if n_random < MIN_RANDOM else (),
    )
