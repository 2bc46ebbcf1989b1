"""Train a cell's model with each context kept, hide bars from it, judge and draw what that costs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from finscale.core.budgets import Cell
from finscale.longcontext.context_sweep import (
    ContextSweepConfig,
    Kind,
    hidden_run,
    loss_table,
    plan_contexts,
    score_table,
    shown_bars,
)
from finscale.longcontext.context_verdict import ContextVerdict, context_verdict
from finscale.pipelines.training.nodes import plan_runs
from finscale.reporting.context_sweep import context_section, loss_against_context, render_context_sweep
from finscale.reporting.study import Provenance
from finscale.runtime import trackers
from finscale.runtime.definition import Paths, ScalingSettings, TrainingSettings
from finscale.runtime.progress import Tracker, track
from finscale.runtime.stopping import STOP
from finscale.runtime.trainings import cell_flags, train_all
from finscale.search.config import SearchConfig
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import RunSpec
from finscale.training.winner import SeedRun
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig
from finscale.windows.folds import fold_folder
from finscale.windows.measures import measure_of

__all__ = ["draw_contexts", "judge_contexts", "plan_sweep", "score_contexts", "train_contexts"]


def plan_sweep(
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
    context_sweep: ContextSweepConfig,
) -> list[RunSpec]:
    """Resolve the model of the cell as its training does; plan it anew for every context kept and seed."""
    asked = plan_runs(
        best_params,
        windows,
        definition,
        cell,
        model,
        hpo,
        training.model_copy(update={"n_seeds": 1, "export": ()}),
        execution,
        provenance,
        allow_defaults,
        run_spec,
    )
    return plan_contexts(asked, windows, context_sweep)


def train_contexts(
    context_specs: list[RunSpec],
    windows: WindowData,
    later_folds: list[WindowData],
    context_sweep_folder: Path,
    windows_folder: Path,
    checked_bars: pd.DataFrame,
    execution: ExecutionConfig,
    hpo: SearchConfig,
    paths: Paths,
    run_spec: str | None,
) -> list[SeedRun]:
    """Train every context kept, each run going on from its checkpoint; finished ones stand as they are."""
    with track("context sweep", len(context_specs)) as tracker:
        return train_all(
            context_specs,
            [_folder(context_sweep_folder, spec, run_spec) for spec in context_specs],
            [windows, *later_folds],
            windows_folder=windows_folder,
            bars=checked_bars,
            execution=execution,
            hpo=hpo,
            shared=paths.shared,
            kind="context_sweep",
            on_run=lambda run: tracker.advance(_note(run)),
        )


def score_contexts(
    context_runs: list[SeedRun],
    windows: WindowData,
    later_folds: list[WindowData],
    baseline_scores: pd.DataFrame,
    context_sweep_folder: Path,
    execution: ExecutionConfig,
    context_sweep: ContextSweepConfig,
    best_params: dict[str, Any] | None,
    run_spec: str | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hide bars from the models of the whole context; lay scores and losses by date out as tables."""
    folds = [windows, *later_folds]
    runs: dict[tuple[Kind, int], list[SeedRun]] = {}
    for run in context_runs:
        runs.setdefault(("trained", shown_bars(run.spec)), []).append(run)
    *shorter, whole = (n_bars for _, n_bars in runs)
    if not _why_nothing_is_hidden(context_runs[0].spec, context_sweep):
        asked = [run for run in runs["trained", whole] if run.evaluation]
        with track("hidden bars", len(shorter) * len(asked)) as tracker:
            for n_bars in shorter:
                places = [(run, _folder(context_sweep_folder, run.spec, run_spec)) for run in asked]
                runs["hidden", n_bars] = list(_hidden(places, folds, n_bars, execution, tracker))
    flags = cell_flags(folds, used_defaults=best_params is None and run_spec is None)
    measure = measure_of(windows.spec.task)
    return score_table(runs, baseline_scores, measure, flags=flags), loss_table(runs)


def judge_contexts(
    context_specs: list[RunSpec],
    context_losses: pd.DataFrame,
    baseline_losses: pd.DataFrame,
    context_sweep: ContextSweepConfig,
    definition: ExperimentConfig,
    cell: Cell,
    scaling: ScalingSettings,
) -> dict[str, Any]:
    """Compare every context kept with the whole one, date by date."""
    verdict = context_verdict(
        context_losses,
        baseline_losses,
        measure_of(definition.data.task),
        cell=cell.id,
        context_length=definition.data.context_length,
        horizon=cell.horizon,
        seed=definition.seed,
        n_draws=scaling.n_bootstrap,
        hidden=_why_nothing_is_hidden(context_specs[0], context_sweep),
    )
    return verdict.model_dump(mode="json")


def draw_contexts(
    context_verdict: dict[str, Any],
    context_scores: pd.DataFrame,
    data_card: dict[str, Any],
    definition: ExperimentConfig,
    provenance: dict[str, Any],
) -> tuple[Any, str, dict[str, Any]]:
    """Draw loss against the context kept, the page that says what it means, and its part of the report."""
    verdict = ContextVerdict.read(context_verdict, subject="context verdict")
    source = Provenance(
        commit=provenance["commit"] + (" (modified)" if provenance["dirty"] else ""),
        environment=provenance["environment"],
        data_hash=str(context_scores["data_hash"].iloc[0]),
    )
    title = f"SIMULATED data: {definition.title}" if data_card["simulated"] else definition.title
    figure = loss_against_context(
        verdict,
        context_scores,
        loss=measure_of(definition.data.task).column,
        title=f"Loss against the context kept, {verdict.cell}",
        provenance=source.line(),
    )
    trackers.log_figure(figure, f"context_{verdict.cell}")
    card, line = str(data_card["line"]), source.line()
    page = render_context_sweep(verdict, context_scores, figure, title=title, data_card=card, provenance=line)
    section = context_section(verdict, context_scores, figure, provenance=line)
    return figure, page, section.model_dump(mode="json")


def _folder(folder: Path, spec: RunSpec, run_spec: str | None) -> Path:
    name = f"seed_{spec.seed}" if run_spec is None else f"run_spec_{spec.arch_id}_{spec.seed}"
    return fold_folder(folder, spec.fold) / f"bars_{shown_bars(spec)}" / name


def _note(run: SeedRun) -> str:
    loss, outcome = run.result.best_val_loss, run.result.outcome
    shown = f"{loss:.4f}" if loss is not None and outcome == "complete" else outcome
    return f"last {shown_bars(run.spec)} bars, seed {run.spec.seed}: {shown}"


def _why_nothing_is_hidden(spec: RunSpec, context_sweep: ContextSweepConfig) -> str:
    if not context_sweep.hidden:
        return "context_sweep.hidden is false"
    return "" if spec.model.reads_masks else f"this {spec.model.family} cannot read masks"


def _hidden(
    places: list[tuple[SeedRun, Path]],
    folds: list[WindowData],
    n_bars: int,
    execution: ExecutionConfig,
    tracker: Tracker,
) -> Iterator[SeedRun]:
    for run, folder in places:
        STOP.raise_if_requested("Stopped between two evaluations; every training is saved.")
        data = folds[run.spec.fold]
        yield hidden_run(run, data, n_shown=n_bars, directory=folder, execution=execution)
        tracker.advance(f"last {n_bars} bars, seed {run.spec.seed}", log=False)
