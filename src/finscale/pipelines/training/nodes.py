"""The winner of a cell, retrained with fresh seeds and scored beside the baselines."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from finscale.archgrid.base import parse_grid_base
from finscale.core.budgets import Cell
from finscale.core.errors import Fault, raise_faults
from finscale.runtime.definition import Paths, TrainingSettings
from finscale.runtime.hardware import HARDWARE
from finscale.runtime.listeners import log_winner
from finscale.runtime.trainings import cell_flags, train_all
from finscale.search.best import BestParams
from finscale.search.config import SearchConfig
from finscale.search.options import read_config, view_of
from finscale.training import quantile_tables
from finscale.training.calibration import should_calibrate
from finscale.training.config import SMOKE_TEST_DEFAULTS, ExecutionConfig, TrainingConfig
from finscale.training.export_config import export_faults
from finscale.training.heads import with_head
from finscale.training.run_spec import Provenance, RunSpec, read_run_spec
from finscale.training.winner import calibrate_seed, date_loss_rows, run_rows, seeds_of, winner_spec
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig
from finscale.windows.folds import fold_folder
from finscale.windows.measures import measure_of
from finscale.windows.view import view_windows

__all__ = ["export_runs", "log_runs", "plan_runs", "score_quantiles", "train_runs"]

_LOGGED = {
    "base_rate_loss": "base_rate_{split}_loss",
    **{name: f"{{split}}_{name}" for name in ("n", "auc", "brier", "ece")},
}
"""What the results log says of every split beside the task's loss, and in which column."""


def plan_runs(
    best_params: dict[str, Any] | None,
    windows: WindowData,
    definition: ExperimentConfig,
    cell: Cell,
    model: dict[str, Any],
    hpo: SearchConfig,
    training: TrainingSettings,
    execution: ExecutionConfig,
    provenance: dict[str, Any],
    allow_defaults: bool,
    run_spec: str | None,
) -> list[RunSpec]:
    """Resolve what to train: the winner with fresh seeds on every fold, a named run_spec, or the defaults."""
    _calibrates(training, windows)
    if run_spec is not None:
        return _exportable([read_run_spec(Path(run_spec))], training)
    best = _winner(best_params, definition, cell, allow_defaults=allow_defaults)
    features, length = windows.spec.features, windows.spec.context_length
    view = view_of(best["searched"], features=features, context_length=length)
    base = with_head(parse_grid_base(model), view_windows(windows, view).spec)
    config = read_config(base, {**best["searched"], **best["architecture"]})
    known = Provenance(data_hash=windows.spec.data_hash, config_hash=best["config_hash"], **provenance)
    specs = [
        winner_spec(
            config,
            best["training"],
            shared=training.shared,
            experiment=definition,
            cell=cell,
            n_features=windows.n_features,
            batch_provider=hpo.batch_provider,
            n_sharing=hpo.n_sharing,
            execution=execution,
            seed=seed,
            fold=fold,
            view=view,
            provenance=known,
        )
        for seed in seeds_of(definition.seed, n_seeds=training.n_seeds)
        for fold in range(windows.spec.n_folds)
    ]
    if best["arch_id"] not in (None, specs[0].arch_id):
        rule = f"hold an architecture of the settings under model.{base.family} ({specs[0].arch_id})"
        remedy = "undo their change, or search again with hpo.restart=true"
        raise Fault(f"best_params.json of {cell.id}", rule, best["arch_id"], remedy)
    return _exportable(specs, training)


def _calibrates(training: TrainingSettings, windows: WindowData) -> bool:
    return should_calibrate(training.conformal, windows.spec, n_rows=len(windows.origins["val_score"]))


def _exportable(specs: list[RunSpec], training: TrainingSettings) -> list[RunSpec]:
    """The same specifications, unless what they train cannot be exported as asked."""
    model = specs[0].model
    raise_faults(export_faults(training, model, dropout=getattr(model, "dropout", 0.0)))
    return specs


def _winner(
    best_params: dict[str, Any] | None, definition: ExperimentConfig, cell: Cell, *, allow_defaults: bool
) -> dict[str, Any]:
    if best_params is not None:
        best = BestParams.read(best_params, subject="best_params.json")
        architecture = best.architecture.model_dump(exclude={"param_count"})
        extras = {name: value for name, value in best.searched.items() if name in TrainingConfig.model_fields}
        return {
            "architecture": architecture,
            "searched": best.searched,
            "training": {**best.training.model_dump(), **extras},
            "config_hash": best.config_hash,
            "arch_id": best.arch_id,
        }
    if allow_defaults:
        return {**SMOKE_TEST_DEFAULTS, "searched": {}, "config_hash": "", "arch_id": None}
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
    training: TrainingSettings,
    hpo: SearchConfig,
    paths: Paths,
    windows_folder: Path,
    checked_bars: pd.DataFrame,
    best_params: dict[str, Any] | None,
    run_spec: str | None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Train every seed, going on from its checkpoint, and score its best epoch on validation and test."""
    folds = [windows, *later_folds]
    folders = _folders(training_folder, run_specs, run_spec)
    runs = train_all(
        run_specs,
        folders,
        folds,
        windows_folder=windows_folder,
        bars=checked_bars,
        execution=execution,
        hpo=hpo,
        shared=paths.shared,
    )
    conformal = _calibrates(training, windows)
    runs = [
        calibrate_seed(run, folds[run.spec.fold], directory=folder, conformal=conformal)
        for run, folder in zip(runs, folders, strict=True)
    ]
    log_winner(runs, folders, checked_bars)
    flags = cell_flags(folds, used_defaults=best_params is None and run_spec is None)
    rows = run_rows(runs, flags=flags, experiment=windows.spec.experiment, title=windows.spec.title)
    rows["warnings"] = [window_warnings] * len(rows)
    rows["max_temperature_c"] = HARDWARE.hottest(rows)
    return rows, date_loss_rows(runs), quantile_tables.quantile_rows(runs, folds)


def score_quantiles(quantile_rows: pd.DataFrame) -> pd.DataFrame:
    """Score quantiles by horizon and volatility regime, beside climatology; empty for every other task."""
    return quantile_tables.quantile_scores(quantile_rows)


def _folders(training_folder: Path, specs: list[RunSpec], run_spec: str | None) -> list[Path]:
    """Each training's own folder: a seed's, under its fold where there are several."""
    names = [
        f"seed_{spec.seed}" if run_spec is None else f"run_spec_{spec.arch_id}_{spec.seed}" for spec in specs
    ]
    return [fold_folder(training_folder, spec.fold) / name for spec, name in zip(specs, names, strict=True)]


def export_runs(
    runs: pd.DataFrame,
    run_specs: list[RunSpec],
    windows: WindowData,
    later_folds: list[WindowData],
    training_folder: Path,
    training: TrainingSettings,
    run_spec: str | None,
) -> list[dict[str, Any]]:
    """Export every seed that was trained to its end in the ways asked for, each into its own folder."""
    if not training.export:
        return []
    from finscale.training.export import export_run

    complete, folds = set(runs.loc[runs["outcome"] == "complete", "seed"]), [windows, *later_folds]
    folders = _folders(training_folder, run_specs, run_spec)
    manifests = [
        export_run(folder, folds[spec.fold], training)
        for spec, folder in zip(run_specs, folders, strict=True)
        if spec.seed in complete
    ]
    return [manifest.model_dump(mode="json") for manifest in manifests]


def log_runs(runs: pd.DataFrame, baseline_scores: pd.DataFrame, definition: ExperimentConfig) -> pd.DataFrame:
    """Return the runs as rows of the experiment's results log: one row per training, splits side by side."""
    loss = measure_of(definition.data.task).column
    logged = {name: column for name, column in _LOGGED.items() if name in runs} | {loss: "{split}_loss"}
    by_split = runs.pivot(index="run_id", columns="split", values=list(logged))
    splits = runs["split"].unique()
    columns = {
        column.format(split=split): by_split[name, split]
        for name, column in logged.items()
        for split in splits
    }
    on_test = baseline_scores[baseline_scores["split"] == "test"].set_index("baseline")[loss]
    first = runs.drop_duplicates("run_id").set_index("run_id")
    joined = first.assign(
        **columns,
        run_type="final",
        status=first["outcome"],
        error=first["outcome"].map({"diverged": "the loss is not finite"}),
        baselines=json.dumps({"test": on_test.to_dict()}),
        flags=first["flags"].map(" ".join),
    )
    return joined.reset_index()
