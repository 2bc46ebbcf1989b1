"""The winner of a cell, retrained with fresh seeds and scored beside the baselines."""

from pathlib import Path
from typing import Any

import pandas as pd

from finscale.core.budgets import Cell
from finscale.core.errors import Fault, Interrupted
from finscale.models.config import PatchTSTConfig
from finscale.runtime.definition import TrainingSettings
from finscale.runtime.listeners import SeedsListener, log_seed_run, watch_training
from finscale.runtime.stopping import STOP
from finscale.search.best import BestParams
from finscale.search.config import SearchConfig
from finscale.search.finals import train_side_by_side
from finscale.search.processes import ProcessExecutor
from finscale.training.config import SMOKE_TEST_DEFAULTS, ExecutionConfig
from finscale.training.run_spec import Provenance, RunSpec, read_run_spec
from finscale.training.winner import SeedRun, date_loss_rows, run_rows, seeds_of, train_seed, winner_spec
from finscale.windows.build import few_positives
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig
from finscale.windows.folds import fold_folder

__all__ = ["log_runs", "plan_runs", "train_runs"]


def plan_runs(
    best_params: dict[str, Any] | None,
    windows: WindowData,
    definition: ExperimentConfig,
    cell: Cell,
    model: PatchTSTConfig,
    hpo: SearchConfig,
    training: TrainingSettings,
    execution: ExecutionConfig,
    provenance: dict[str, Any],
    allow_defaults: bool,
    run_spec: str | None,
) -> list[RunSpec]:
    """Resolve what to train: the winner with fresh seeds on every fold, a named run_spec, or the defaults."""
    if run_spec is not None:
        return [read_run_spec(Path(run_spec))]
    best = _winner(best_params, definition, cell, allow_defaults=allow_defaults)
    known = Provenance(data_hash=windows.spec.data_hash, config_hash=best["config_hash"], **provenance)
    return [
        winner_spec(
            best["architecture"],
            best["training"],
            base=model,
            shared=training.shared,
            experiment=definition,
            cell=cell,
            n_features=windows.n_features,
            batch_provider=hpo.batch_provider,
            execution=execution,
            seed=seed,
            fold=fold,
            provenance=known,
        )
        for seed in seeds_of(definition.seed, n_seeds=training.n_seeds)
        for fold in range(windows.spec.n_folds)
    ]


def _winner(
    best_params: dict[str, Any] | None, definition: ExperimentConfig, cell: Cell, *, allow_defaults: bool
) -> dict[str, Any]:
    if best_params is not None:
        best = BestParams.read(best_params, subject="best_params.json")
        architecture = best.architecture.model_dump(exclude={"param_count"})
        return {
            "architecture": architecture,
            "training": best.training.model_dump(),
            "config_hash": best.config_hash,
        }
    if allow_defaults:
        return {**SMOKE_TEST_DEFAULTS, "config_hash": ""}
    chosen = f"budget={cell.budget},horizon={cell.horizon},experiment={definition.name}"
    remedy = f"make it with: kedro run --pipelines hpo --params {chosen}; or add allow_defaults=true"
    raise Fault(f"best_params.json of {cell.id}", "exist before training", "no such file", remedy)


def train_runs(
    run_specs: list[RunSpec],
    windows: WindowData,
    later_folds: list[WindowData],
    training_folder: Path,
    window_warnings: list[str],
    execution: ExecutionConfig,
    hpo: SearchConfig,
    windows_folder: Path,
    best_params: dict[str, Any] | None,
    run_spec: str | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train every seed, going on from its checkpoint, and score its best epoch on validation and test."""
    folds = [windows, *later_folds]
    folders = [training_folder / _folder_of(spec, named=run_spec is not None) for spec in run_specs]
    if hpo.executor == "process" and len(run_specs) > 1:
        sources = [fold_folder(windows_folder, spec.fold) for spec in run_specs]
        _train_side_by_side(run_specs, folders, sources, execution, hpo.n_slots)
    runs = [
        _train(spec, folds[spec.fold], folder, execution)
        for spec, folder in zip(run_specs, folders, strict=True)
    ]
    flags = [
        *(["few_positives"] if any(map(few_positives, folds)) else []),
        *(["allow_defaults"] if best_params is None and run_spec is None else []),
    ]
    rows = run_rows(runs, flags=flags, experiment=windows.spec.experiment, title=windows.spec.title)
    rows["warnings"] = [window_warnings] * len(rows)
    return rows, date_loss_rows(runs)


def _folder_of(spec: RunSpec, *, named: bool) -> Path:
    """Each training's own folder: a seed's, under its fold where there are several."""
    fold = fold_folder(Path(), spec.fold)
    return fold / (f"run_spec_{spec.arch_id}_{spec.seed}" if named else f"seed_{spec.seed}")


def _train_side_by_side(
    specs: list[RunSpec],
    folders: list[Path],
    windows_folders: list[Path],
    execution: ExecutionConfig,
    n_slots: int,
) -> None:
    """Use all worker slots; each seed's record is then found finished."""
    cell = specs[0].cell.id
    with (
        SeedsListener(cell, specs) as listener,
        ProcessExecutor(n_slots=n_slots, on_report=listener) as executor,
    ):
        is_done = train_side_by_side(
            specs,
            folders,
            windows_directories=windows_folders,
            execution=execution,
            executor=executor,
            should_stop=STOP.requested,
        )
    if not is_done:
        raise Interrupted(
            f"Training of {cell} stopped; checkpoints hold what its seeds reached.", STOP.exit_code
        )


def _train(spec: RunSpec, windows: WindowData, folder: Path, execution: ExecutionConfig) -> SeedRun:
    fold = f" fold {spec.fold}" if windows.spec.n_folds > 1 else ""
    with watch_training(f"Train {spec.cell.id}{fold} seed {spec.seed}", spec.training.epochs) as listen:
        run = train_seed(
            spec,
            windows,
            directory=folder,
            execution=execution,
            on_event=listen,
            should_stop=STOP.requested,
        )
    if run.result.outcome == "stopped":
        saved = f"epoch {run.result.stopped_epoch}, step {run.result.n_steps}"
        raise Interrupted(
            f"Training of {spec.cell.id} stopped; its checkpoint holds {saved}.", STOP.exit_code
        )
    log_seed_run(run)
    return run


def log_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs as rows of the experiment's results log: one row per training, losses side by side."""
    losses = runs.pivot(index="run_id", columns="split", values=["log_loss", "base_rate_loss"])
    columns = {
        **{f"{split}_loss": losses["log_loss", split] for split in losses["log_loss"]},
        **{f"base_rate_{split}_loss": losses["base_rate_loss", split] for split in losses["base_rate_loss"]},
    }
    first = runs.drop_duplicates("run_id").set_index("run_id")
    joined = first.assign(
        **columns, run_type="final", status=first["outcome"], flags=first["flags"].map(" ".join)
    )
    return joined.reset_index()
