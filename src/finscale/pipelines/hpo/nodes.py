"""The search of one cell: an adapter around `finscale.search.run.run_search`."""

import functools
import json
from datetime import UTC
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from finscale.core.budgets import Cell
from finscale.core.errors import Answered, Fault, Interrupted, raise_faults
from finscale.reporting.collect import searched_rows
from finscale.runtime.cluster import make_executor
from finscale.runtime.definition import GridSettings, Paths, TrainingSettings
from finscale.runtime.hardware import HARDWARE
from finscale.runtime.listeners import SearchListener, log_missing_trials
from finscale.runtime.progress import track
from finscale.runtime.search_answers import print_survey, print_verification
from finscale.runtime.stopping import STOP
from finscale.search.config import SearchConfig
from finscale.search.run import run_search
from finscale.search.study import load_study
from finscale.search.survey import survey_search
from finscale.search.trials import trials_table
from finscale.search.verification import verify_study
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import Provenance
from finscale.training.scoring import scoring_of
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig
from finscale.windows.measures import measure_of

__all__ = ["search_cell", "tabulate_trials"]


def search_cell(
    arch_grid: pd.DataFrame,
    windows: WindowData,
    baseline_losses: pd.DataFrame,
    windows_folder: Path,
    study_folder: Path,
    definition: ExperimentConfig,
    cell: Cell,
    hpo: SearchConfig,
    training: TrainingSettings,
    grid: GridSettings,
    execution: ExecutionConfig,
    paths: Paths,
    provenance: dict[str, Any],
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Search architecture and training parameters of the cell, go on with its search, or answer about it."""
    if hpo.dry_run or hpo.verify:
        _answer(hpo, arch_grid, windows, study_folder, definition, cell, training, grid)
    baselines = _baselines(baseline_losses, windows)
    with track(f"Search {cell.id}", hpo.n_trials) as tracker:
        result = run_search(
            hpo,
            experiment=definition,
            cell=cell,
            grid=arch_grid,
            tolerance=grid.tolerance,
            windows_directory=windows_folder,
            study_directory=study_folder,
            execution=execution,
            training_defaults=training.shared,
            provenance=Provenance(data_hash=windows.spec.data_hash, **provenance),
            baselines=baselines,
            seed=definition.seed,
            on_event=SearchListener(cell, study_folder, tracker, wandb_project=definition.wandb_project),
            should_stop=STOP.requested,
            should_pause=STOP.should_pause,
            make_executor=functools.partial(make_executor, shared=paths.shared),
        )
    log_missing_trials(cell, study_folder)
    standing = f"{result.n_finished} of {result.n_trials} trials of {cell.id} are finished and kept"
    if result.outcome == "stopped":
        raise Interrupted(f"Search stopped: {standing}.", STOP.exit_code)
    if result.best is None or result.outcome == "failed":
        remedy = f"see failure.txt under {study_folder / 'trials'}, mend it and run again ({standing})"
        raise Fault(f"search of {cell.id}", "find a working trial", result.reason or "none", remedy)
    return study_folder, result.best.model_dump(mode="json"), result.model_dump(mode="json")


def _answer(
    hpo: SearchConfig,
    arch_grid: pd.DataFrame,
    windows: WindowData,
    study_folder: Path,
    definition: ExperimentConfig,
    cell: Cell,
    training: TrainingSettings,
    grid: GridSettings,
) -> NoReturn:
    """Say what the search would be (``dry_run``), whether its study is whole (``verify``), and end there."""
    survey, table = survey_search(
        hpo,
        experiment=definition,
        grid=arch_grid,
        tolerance=grid.tolerance,
        windows=windows,
        study_directory=study_folder,
        training_defaults=training.shared,
    )
    if hpo.dry_run:
        print_survey(survey, cell)
    if hpo.verify:
        found, faults = verify_study(
            study_folder, table, forces_extremes=hpo.sampler not in ("sample", "grid")
        )
        print_verification(found, cell)
        raise_faults(faults, heading=f"{len(faults)} faults in the study of {cell.id}" if faults else "")
    raise Answered("Nothing was trained or written.")


def _baselines(losses: pd.DataFrame, windows: WindowData) -> dict[str, float]:
    """Return what a trial's value stands beside: the same loss on the same rows."""
    measure = measure_of(windows.spec.task)
    if not measure.is_validated:
        targets = windows.targets_at("val_select").astype(np.float64)
        return {measure.reference: scoring_of(windows.spec).reference_rows(windows, targets).value}
    on_select = searched_rows(losses).groupby("baseline")[measure.column].mean()
    return {str(name): float(loss) for name, loss in on_select.items()}


def tabulate_trials(
    study: Path, search_summary: dict[str, Any], definition: ExperimentConfig, cell: Cell
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the study into one row per trial, and into the rows of the experiment's results log."""
    trials = trials_table(load_study(study))
    names = {"value": "val_select_loss", "base_rate_loss": "base_rate_val_select_loss"}
    log = trials.rename(columns={**names, "outcome": "status", "reason": "error"})
    log = log.assign(
        run_id=[f"{search_summary['best']['study_name']}:{number}" for number in trials["number"]],
        experiment=definition.name,
        cell=cell.id,
        run_type=trials["kind"],
        **{name: _utc(trials[name]) for name in ("started_at", "finished_at")},
        baselines=json.dumps({"val_select": search_summary["best"]["baselines"]}),
        max_temperature_c=HARDWARE.hottest(trials),
    )
    return trials, log[trials["state"] != "RUNNING"]


def _utc(instants: pd.Series) -> pd.Series:
    """The study's instants are local, and do not say so."""
    return instants.map(lambda at: at.to_pydatetime().astimezone(UTC), na_action="ignore")
