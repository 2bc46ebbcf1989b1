"""The search of one cell: an adapter around `finscale.search.run.run_search`."""

import json
from datetime import UTC
from pathlib import Path
from typing import Any

import pandas as pd

from finscale.core.budgets import Cell
from finscale.core.errors import Fault, Interrupted
from finscale.reporting.collect import searched_rows
from finscale.runtime.definition import TrainingSettings
from finscale.runtime.hardware import HARDWARE
from finscale.runtime.listeners import SearchListener
from finscale.runtime.progress import track
from finscale.runtime.stopping import STOP
from finscale.search.config import SearchConfig
from finscale.search.run import run_search
from finscale.search.study import STUDY_FILE, load_study
from finscale.search.trials import trials_table
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import Provenance
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig

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
    execution: ExecutionConfig,
    provenance: dict[str, Any],
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Search architecture and training parameters of the cell, or go on with its search."""
    on_select = searched_rows(baseline_losses).groupby("baseline")["log_loss"].mean()
    with track(f"Search {cell.id}", hpo.n_trials) as tracker:
        result = run_search(
            hpo,
            experiment=definition,
            cell=cell,
            grid=arch_grid,
            windows_directory=windows_folder,
            study_directory=study_folder,
            execution=execution,
            training_defaults=training.shared,
            provenance=Provenance(data_hash=windows.spec.data_hash, **provenance),
            baselines={str(name): float(loss) for name, loss in on_select.items()},
            seed=definition.seed,
            on_event=SearchListener(cell, study_folder, tracker, wandb_project=definition.wandb_project),
            should_stop=STOP.requested,
            should_pause=STOP.should_pause,
        )
    standing = f"{result.n_finished} of {result.n_trials} trials of {cell.id} are finished and kept"
    if result.outcome == "stopped":
        raise Interrupted(f"Search stopped: {standing}.", STOP.exit_code)
    if result.best is None or result.outcome == "failed":
        remedy = f"see failure.txt under {study_folder / 'trials'}, mend it and run again ({standing})"
        raise Fault(f"search of {cell.id}", "find a working trial", result.reason or "none", remedy)
    return study_folder / STUDY_FILE, result.best.model_dump(mode="json"), result.model_dump(mode="json")


def tabulate_trials(
    study: str, search_summary: dict[str, Any], definition: ExperimentConfig, cell: Cell
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the study into one row per trial, and into the rows of the experiment's results log."""
    trials = trials_table(load_study(Path(study.removeprefix("sqlite:///")).parent))
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
