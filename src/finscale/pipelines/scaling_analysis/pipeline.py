"""Lineage of the verdict."""

from typing import Any

from kedro.pipeline import Pipeline, node

from finscale.pipelines.scaling_analysis.nodes import (
    analyse_scaling,
    draw_quantiles,
    draw_study,
    plan_power,
    write_report,
)

__all__ = ["create_pipeline"]


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Return finished cells -> verdict -> figures and report."""
    return Pipeline(
        [
            node(
                analyse_scaling,
                [
                    *("cell_runs", "cell_trials", "cell_date_losses"),
                    *(
                        "horizon_baseline_losses",
                        "horizon_baseline_scores",
                        "budget_grids",
                        "runs",
                        "data_card",
                    ),
                    *(
                        "params:definition",
                        "params:model",
                        "params:sweep",
                        "params:training",
                        "params:scaling",
                    ),
                    "params:provenance",
                ],
                "scaling_study",
                name="analyse_scaling",
            ),
            node(
                draw_quantiles,
                ["scaling_study", "cell_quantile_rows", "cell_quantile_scores", "quantile_scores"],
                "quantile_sections",
                name="draw_quantiles",
            ),
            node(
                draw_study,
                ["scaling_study", "quantile_sections"],
                ["excess_against_n", "scaling_figures"],
                name="draw_study",
            ),
            node(
                write_report,
                ["scaling_study", "long_context_sections", "context_sections", "quantile_sections"],
                ["scaling_report", "scaling_table", "scaling_summary"],
                name="write_report",
            ),
            node(plan_power, "scaling_study", ["power_plan", "power_table"], name="plan_power"),
        ]
    )
