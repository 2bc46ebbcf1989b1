"""Lineage of the final trainings."""

from typing import Any

from kedro.pipeline import Pipeline, node

from finscale.pipelines.training.nodes import export_runs, log_runs, plan_runs, score_quantiles, train_runs
from finscale.runtime.preflight import NEEDS_DEVICE

__all__ = ["create_pipeline"]


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Return best parameters + windows -> trained seeds -> scores, per-date losses, quantiles, exports."""
    return Pipeline(
        [
            node(
                plan_runs,
                [
                    *("best_params", "windows", "params:definition", "params:cell", "params:model"),
                    *("params:hpo", "params:training", "params:execution", "params:provenance"),
                    *("params:allow_defaults", "params:run_spec"),
                ],
                "run_specs",
                name="plan_runs",
                tags=NEEDS_DEVICE,
            ),
            node(
                train_runs,
                [
                    *("run_specs", "windows", "later_folds", "training_folder", "window_warnings"),
                    *("params:execution", "params:training", "params:hpo", "params:paths", "windows_folder"),
                    *("checked_bars", "best_params", "params:run_spec"),
                ],
                ["runs", "date_losses", "quantile_rows"],
                name="train_runs",
                tags=NEEDS_DEVICE,
            ),
            node(score_quantiles, "quantile_rows", "quantile_scores", name="score_quantiles"),
            node(
                log_runs,
                ["runs", "baseline_scores", "params:definition"],
                "run_results",
                name="log_runs",
            ),
            node(
                export_runs,
                [
                    *("runs", "run_specs", "windows", "later_folds", "training_folder"),
                    *("params:training", "params:run_spec"),
                ],
                "exports",
                name="export_runs",
            ),
        ]
    )
