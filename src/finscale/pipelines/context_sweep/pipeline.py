"""Lineage of the context sweep."""

from typing import Any

from kedro.pipeline import Pipeline, node

from finscale.pipelines.context_sweep.nodes import (
    draw_contexts,
    judge_contexts,
    plan_sweep,
    score_contexts,
    train_contexts,
)
from finscale.runtime.preflight import NEEDS_DEVICE

__all__ = ["create_pipeline"]


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Return best parameters + windows -> a training per context kept -> losses, verdict, figure and page."""
    return Pipeline(
        [
            node(
                plan_sweep,
                [
                    *("best_params", "windows", "params:definition", "params:cell", "params:model"),
                    *("params:hpo", "params:training", "params:execution", "params:provenance"),
                    *("params:allow_defaults", "params:run_spec", "params:context_sweep"),
                ],
                "context_specs",
                name="plan_sweep",
                tags=NEEDS_DEVICE,
            ),
            node(
                train_contexts,
                [
                    *("context_specs", "windows", "later_folds", "context_sweep_folder", "windows_folder"),
                    *("checked_bars", "params:execution", "params:hpo", "params:paths", "params:run_spec"),
                ],
                "context_runs",
                name="train_contexts",
                tags=NEEDS_DEVICE,
            ),
            node(
                score_contexts,
                [
                    *("context_runs", "windows", "later_folds", "baseline_scores", "context_sweep_folder"),
                    *("params:execution", "params:context_sweep", "best_params", "params:run_spec"),
                ],
                ["context_scores", "context_losses"],
                name="score_contexts",
                tags=NEEDS_DEVICE,
            ),
            node(
                judge_contexts,
                [
                    *("context_specs", "context_losses", "baseline_losses", "params:context_sweep"),
                    *("params:definition", "params:cell", "params:scaling"),
                ],
                "context_verdict",
                name="judge_contexts",
            ),
            node(
                draw_contexts,
                [
                    *("context_verdict", "context_scores", "data_card"),
                    *("params:definition", "params:provenance"),
                ],
                ["context_figure", "context_page", "context_section"],
                name="draw_contexts",
            ),
        ]
    )
