"""The verdict over all finished cells of one experiment, its figures and its report."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from finscale.core.budgets import cells_of
from finscale.core.config import leaves_of
from finscale.core.errors import Fault
from finscale.models.config import AnyConfig, parse_model_config
from finscale.reporting import collect
from finscale.reporting.figures import export_figures, stamped
from finscale.reporting.power import power_report, power_table
from finscale.reporting.quantile_section import QuantileSection, quantile_sections
from finscale.reporting.report import render_report
from finscale.reporting.study import Checklist, Provenance, ReportInput
from finscale.reporting.summary import compose, scaling_summary, summary_markdown
from finscale.runtime import trackers
from finscale.runtime.definition import SET_ELSEWHERE, ScalingSettings, SweepSettings, TrainingSettings
from finscale.scalinglaws.verdict import scaling_verdict
from finscale.windows.experiment import ExperimentConfig
from finscale.windows.measures import Measure, measure_of

__all__ = ["analyse_scaling", "draw_quantiles", "draw_study", "plan_power", "write_report"]


def analyse_scaling(
    cell_runs: Mapping[str, pd.DataFrame],
    cell_trials: Mapping[str, pd.DataFrame],
    cell_date_losses: Mapping[str, pd.DataFrame],
    horizon_baseline_losses: Mapping[str, pd.DataFrame],
    horizon_baseline_scores: Mapping[str, pd.DataFrame],
    budget_grids: Mapping[str, pd.DataFrame],
    runs: pd.DataFrame | None,
    data_card: dict[str, Any],
    definition: ExperimentConfig,
    model: dict[str, Any],
    sweep: SweepSettings,
    training: TrainingSettings,
    scaling: ScalingSettings,
    provenance: dict[str, Any],
) -> ReportInput:
    """Collect whatever cells exist and draw the verdict; ``runs`` only orders this after the current cell."""
    if not cell_runs:
        remedy = f"train one with: kedro run --pipelines training --params experiment={definition.name}"
        raise Fault(f"experiment {definition.name}", "have a finished cell", "none", remedy)
    kept, dropped = _on_same_data(cell_runs)
    losses = {_horizon(name): rows for name, rows in horizon_baseline_losses.items()}
    scores = {_horizon(name): rows for name, rows in horizon_baseline_scores.items()}
    measure = measure_of(definition.data.task)
    by_date = collect.baselines_by_date(losses, measure)
    cells = collect.cells_table(kept, cell_trials, measure)
    trials = {cell: rows for cell, rows in cell_trials.items() if cell in kept}
    dates = {cell: rows for cell, rows in cell_date_losses.items() if cell in kept}
    return ReportInput(
        title=f"SIMULATED data: {definition.title}" if data_card["simulated"] else definition.title,
        measure=measure,
        verdict=scaling_verdict(cells),
        test_verdict=scaling_verdict(cells, split="test"),
        cells=cells,
        trials=collect.trial_table(trials),
        baselines=collect.baseline_table(scores, measure),
        date_losses=collect.date_loss_table(dates, by_date, measure),
        baselines_by_date=by_date,
        grid=collect.grid_table(budget_grids, cells),
        costs=collect.cost_table(kept, trials),
        planned=tuple(cell.id for cell in cells_of(sweep.budgets, sweep.horizons)),
        provenance=Provenance(
            commit=provenance["commit"] + (" (modified)" if provenance["dirty"] else ""),
            environment=provenance["environment"],
            data_hash=str(cells["data_hash"].iloc[0]),
        ),
        data_card=data_card["line"],
        checklist=_checklist(parse_model_config(model), training, measure, kept),
        warnings=(*data_card["warnings"], *_said(kept), *_noted(scores), *dropped),
        seed=definition.seed,
        n_draws=scaling.n_bootstrap,
    )


def _on_same_data(runs: Mapping[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], tuple[str, ...]]:
    """Keep the cells on the data that most cells share; name the others."""
    hashes = {cell: str(rows["data_hash"].iloc[0]) for cell, rows in runs.items()}
    common = pd.Series(hashes).mode().iloc[0]
    kept = {cell: rows for cell, rows in runs.items() if hashes[cell] == common}
    others = [cell for cell in runs if cell not in kept]
    sentence = f"Left out, because they were run on other data: {', '.join(others)}."
    return kept, (sentence,) if others else ()


def _said(runs: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    """What building the windows warned of, each sentence once."""
    return tuple(dict.fromkeys(warning for rows in runs.values() for warning in rows["warnings"].iloc[0]))


def _noted(scores: Mapping[int, pd.DataFrame]) -> tuple[str, ...]:
    """Where a baseline is not quite what its name says, each once."""
    found = [(h, *row) for h, rows in scores.items() for row in _notes(rows)]
    return tuple(f"Baseline {name} at horizon {h}: {note}." for h, name, note in found)


def _notes(scores: pd.DataFrame) -> list[tuple[str, str]]:
    rows = scores.loc[scores["note"] != "", ["baseline", "note"]].drop_duplicates()
    return list(rows.itertuples(index=False, name=None))


def _horizon(folder: str) -> int:
    return int(folder.rpartition("_h")[2])


def _checklist(
    model: AnyConfig, training: TrainingSettings, measure: Measure, runs: Mapping[str, pd.DataFrame]
) -> Checklist:
    settings = leaves_of(model.model_dump(exclude=set(SET_ELSEWHERE), exclude_none=True), "")
    return Checklist(
        model=f"{model.family} ({', '.join(f'{name} {value}' for name, value in settings if value != ())})",
        which_n="all trainable parameters of the retrained winner, counted on the built model",
        d_definition="the same unique training windows for every cell; D does not vary",
        checkpoint=f"epoch of lowest val_select loss (patience {training.patience}, "
        f"{training.min_delta_mode} min_delta {training.min_delta})",
        objective=f"{_objective(training, measure)}; search on val_select, verdict on val_score in "
        f"{measure.words}",
        optimiser=_optimiser(runs),
    )


_LOSS_OPTIONS = ("huber_delta", "class_weights", "label_smoothing", "focal_gamma", "loss_weights")


def _objective(training: TrainingSettings, measure: Measure) -> str:
    """What was trained: the task's own loss, unless something else was asked for."""
    trained = "Huber loss" if training.loss == "huber" else measure.objective
    asked = [f"{name} {getattr(training, name)}" for name in _LOSS_OPTIONS if getattr(training, name)]
    return f"{trained} ({', '.join(asked)})" if asked else trained


def _optimiser(runs: Mapping[str, pd.DataFrame]) -> str:
    """Every optimizer and schedule that the trainings of these cells executed."""
    names = ["optimizer", "schedule", "warmup_steps"]
    rows = pd.concat([run.reindex(columns=names) for run in runs.values()]).dropna()
    if rows.empty:
        return "not recorded"
    used = sorted(set(rows["optimizer"] + ", " + rows["schedule"]))
    low, high = int(rows["warmup_steps"].min()), int(rows["warmup_steps"].max())
    return f"{'; '.join(used)}; {low} to {high} steps of warm-up"


def draw_quantiles(
    study: ReportInput,
    cell_quantile_rows: Mapping[str, Callable[[], pd.DataFrame]],
    cell_quantile_scores: Mapping[str, pd.DataFrame],
    quantile_scores: pd.DataFrame | None,
) -> dict[str, QuantileSection]:
    """Draw every cell's quantiles; ``quantile_scores`` only orders this after the current cell."""
    return quantile_sections(study, cell_quantile_rows, cell_quantile_scores)


def draw_study(study: ReportInput, quantiles: Mapping[str, QuantileSection]) -> tuple[Any, dict[str, Any]]:
    """Draw every figure to stand alone; the first is the one the verdict rests on."""
    placed = [pair for section in quantiles.values() for pair in section.figures.items()]
    figures = export_figures(study) | {name: stamped(figure) for name, figure in placed}
    for name, figure in figures.items():
        trackers.log_figure(figure, name)
    return figures["excess_against_n"], figures


def write_report(
    study: ReportInput,
    long_context: Mapping[str, dict[str, Any]],
    context_sweeps: Mapping[str, dict[str, Any]],
    quantiles: Mapping[str, QuantileSection],
) -> tuple[str, str, dict[str, Any]]:
    """Write the self-contained HTML report, its Markdown form and scaling_summary.json, its record."""
    swept = {f"context_{cell}": section for cell, section in context_sweeps.items()}
    report = compose(study, long_context={**long_context, **swept}, quantiles=quantiles)
    overall = study.verdict.overall
    trackers.log_metrics({"n_cells": study.verdict.n_cells, **_numbers(overall.model_dump())})
    return render_report(report), summary_markdown(report), scaling_summary(report)


def plan_power(study: ReportInput) -> tuple[dict[str, Any], str]:
    """Weigh the planned cells: the smallest drop they could detect beside the hours they would take."""
    report = power_report(study)
    table = power_table(report)
    return report.model_dump(mode="json"), table.to_markdown() if table else "No noise was measured yet.\n"


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, float)}
