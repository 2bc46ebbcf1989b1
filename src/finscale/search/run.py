"""The search of one cell, from grid and windows to best_params.json.

``run_search(config, *, experiment, cell, grid, windows_directory, study_directory, execution,
training_defaults, provenance, baselines, seed, on_event=ignore, should_stop=never) -> SearchResult``

Everything it leaves lies under ``study_directory``: ``study.db`` (the truth), ``best_params.json``,
``trials.parquet``, ``trials/trial_0007.yaml`` (a run specification that training re-runs exactly) and the
trials' own directories.
"""

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import optuna
import pandas as pd
from optuna.trial import FrozenTrial

from finscale.archgrid.base import parse_grid_base
from finscale.core.budgets import Cell
from finscale.search.additions import Additions, add_to, named_rows
from finscale.search.best import BEST_FILE, lowest, write_best
from finscale.search.config import SearchConfig
from finscale.search.database import close_storage, patiently
from finscale.search.driver import Driver, DriverResult, SearchEvent, ignore
from finscale.search.executors import Executor, InlineExecutor, OnReport, unpaused
from finscale.search.planner import Planner, identify, require_processes, training_config
from finscale.search.processes import ProcessExecutor
from finscale.search.proposals import Proposal, Proposer
from finscale.search.result import SearchResult, result_of
from finscale.search.settled import settle
from finscale.search.study import archive_study, lease, open_study, refuse_other_machines
from finscale.search.supplemental import Bounds
from finscale.search.trials import describe_trial, dimensions_of, write_trials
from finscale.search.weights import keep_best_weights
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.run_spec import Provenance
from finscale.windows.data import load_windows
from finscale.windows.experiment import ExperimentConfig

__all__ = ["MakeExecutor", "SearchResult", "local_executor", "never", "run_search"]

TRIALS_FILE = "trials.parquet"
_FUNCTION = "finscale.search.objective:train_trial"
_logger = logging.getLogger(__name__)


def never() -> bool:
    """Do not stop."""
    return False


class MakeExecutor(Protocol):
    """Make what runs the attempts of a search."""

    def __call__(
        self,
        config: SearchConfig,
        *,
        on_report: OnReport,
        should_stop: Callable[[], bool],
        should_pause: Callable[[], bool],
    ) -> Executor:
        """Return an executor, not yet entered."""
        ...


def local_executor(
    config: SearchConfig,
    *,
    on_report: OnReport,
    should_stop: Callable[[], bool],
    should_pause: Callable[[], bool],
) -> Executor:
    """Make the executors of one machine (a `MakeExecutor`)."""
    if config.executor == "inline":
        return InlineExecutor(on_report=on_report, should_stop=should_stop, should_pause=should_pause)
    assert config.executor == "process", "a cluster is the shell's"
    assert config.n_slots
    return ProcessExecutor(
        n_slots=config.n_slots,
        n_processes=config.n_processes,
        on_report=on_report,
        should_pause=should_pause,
    )


def run_search(
    config: SearchConfig,
    *,
    experiment: ExperimentConfig,
    cell: Cell,
    grid: pd.DataFrame,
    tolerance: float,
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
    make_executor: MakeExecutor = local_executor,
) -> SearchResult:
    """Search one cell, or go on with its search.

    Parameters
    ----------
    grid : DataFrame
        Of the cell's budget, from ``archgrid.enumerate_grid``.
    tolerance : float
        Half-width of the band around the budget that the grid was made with.
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
    make_executor : callable
        Makes what runs the trials; the one given here by default knows no cluster.

    Raises
    ------
    FinscaleError
        For what must be known before the first trial: another driver, another study, bad defaults, a space
        that is too small.
    """
    windows = load_windows(windows_directory)
    settled = settle(
        config.space,
        experiment=experiment,
        grid=grid,
        features=windows.spec.features,
        tolerance=tolerance,
        training_defaults=training_defaults,
    )
    space, table = settled.space, settled.candidates.table
    require_processes(config, execution, models=map(json.loads, table["config"]))
    proposer = Proposer(table, config, space, seed=seed)
    config = config.model_copy(update={"n_trials": proposer.n_trials})
    first = proposer.typical()
    training = training_config(training_defaults, first.training)
    identity = identify(
        experiment=experiment,
        cell=cell,
        space=config.space,
        grid=table,
        training=training,
        searched=space.training_names,
        data_hash=provenance.data_hash,
    )
    planner = Planner(
        experiment=experiment,
        cell=cell,
        windows_directory=windows_directory,
        study_directory=study_directory,
        n_features=windows.n_features,
        execution=execution,
        training_defaults=training_defaults,
        provenance=provenance.model_copy(update={"config_hash": identity.config_hash}),
        batch_provider=config.batch_provider,
        n_sharing=config.n_sharing,
        seed=seed,
    )
    planner.check(first)
    bounds = Bounds(
        table,
        space,
        base=parse_grid_base(json.loads(grid["config"].iloc[0])),
        n_features=windows.n_features,
        context_length=windows.spec.context_length,
        tolerance=tolerance,
    )
    named = named_rows(config.supplemental, cell, bounds)
    name = f"{experiment.name}_{cell.id}"
    if config.executor == "ray":
        refuse_other_machines(study_directory)
    with ExitStack() as held:
        held.enter_context(lease(study_directory))
        if config.restart:
            archive_study(study_directory, name=name)
        study = open_study(
            study_directory,
            name=name,
            identity=identity,
            attributes={
                "baselines": dict(baselines),
                "cell": cell.id,
                "experiment": experiment.name,
                "dimensions": [*space.row_names, *space.training_names],
                "fixed": _fixed(training, first, searched=space.training_names),
            },
        )
        held.callback(close_storage, study)
        added = add_to(
            study,
            config,
            directory=study_directory,
            cell=cell,
            identity=identity,
            bounds=bounds,
            named=named,
            seed=seed,
        )
        ended = _drive(
            study,
            config,
            added,
            planner,
            on_event=on_event,
            should_stop=should_stop,
            should_pause=should_pause,
            make_executor=make_executor,
        )
        study.set_user_attr("ended", ended.outcome)
        write_trials(study, study_directory / TRIALS_FILE)
        best = write_best(study, study_directory / BEST_FILE)
        return result_of(study, config, ended, added, table=table, best=best)


def _fixed(training: TrainingConfig, typical: Proposal, *, searched: Collection[str]) -> dict[str, Any]:
    """Return the training parameters that every trial shares, dropout included."""
    dropout = json.loads(typical.row["config"])["dropout"]
    shared = {"dropout": dropout, **training.model_dump(mode="json")}
    return {name: value for name, value in shared.items() if name not in searched}


def _drive(
    study: optuna.Study,
    config: SearchConfig,
    added: Additions,
    planner: Planner,
    *,
    on_event: Callable[[SearchEvent], None],
    should_stop: Callable[[], bool],
    should_pause: Callable[[], bool],
    make_executor: MakeExecutor,
) -> DriverResult:
    directory = planner.study_directory
    stop_now = directory / "STOP_NOW"

    def stopping() -> bool:
        return should_stop() or stop_now.exists()

    def on_report(number: int, values: Mapping[str, Any]) -> None:
        driver.on_report(number, values)

    with make_executor(
        config, on_report=on_report, should_stop=stopping, should_pause=should_pause
    ) as executor:
        driver = Driver(
            study,
            added.proposer,
            executor,
            config=config,
            supplements=added.supplements,
            function=_FUNCTION,
            plan=planner.plan,
            directory=directory,
            after_tell=lambda trials, number: patiently(
                lambda: _record(study, trials, number, directory, top_k=config.top_k)
            ),
            on_event=on_event,
            should_stop=stopping,
        )
        result = driver.run()
    stop_now.unlink(missing_ok=True)
    return result


def _record(
    study: optuna.Study, trials: Sequence[FrozenTrial], number: int, directory: Path, *, top_k: int
) -> None:
    """Log a told trial, drop the weights that are not kept, and write the winner if it is this one."""
    _logger.info(describe_trial(trials[number], dimensions_of(study)))
    keep_best_weights(trials, directory, top_k=top_k)
    best = lowest(trials)
    if best is not None and best.number == number:
        write_best(study, directory / BEST_FILE)
