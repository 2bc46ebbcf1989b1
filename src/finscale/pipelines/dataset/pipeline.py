"""Lineage of the windows."""

from typing import Any

from kedro.pipeline import Pipeline, node

from finscale.pipelines.dataset.nodes import (
    draw_drift,
    draw_features,
    make_windows,
    measure_drift,
    score_baseline_losses,
    summarise_baselines,
)
from finscale.runtime.runner import CACHED

__all__ = ["create_pipeline"]


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Return features -> windows -> baselines, with the drift and a page of the features beside them."""
    return Pipeline(
        [
            node(
                make_windows,
                ["features", "checked_bars", "params:definition", "params:cell.horizon"],
                ["windows", "later_folds", "window_warnings"],
                name="make_windows",
            ),
            node(
                score_baseline_losses,
                ["windows", "later_folds", "checked_bars"],
                "baseline_losses",
                name="score_baseline_losses",
            ),
            node(summarise_baselines, "baseline_losses", "baseline_scores", name="summarise_baselines"),
            node(measure_drift, ["features", "windows"], "feature_drift", name="measure_drift"),
            node(draw_drift, "feature_drift", "feature_drift_figure", name="draw_drift"),
            node(
                draw_features,
                ["features", "checked_bars", "windows", "params:definition"],
                "feature_page",
                name="draw_features",
            ),
        ],
        tags=CACHED,
    )
