"""Lineage of the windows."""

from typing import Any

from kedro.pipeline import Pipeline, node

from finscale.pipelines.dataset.nodes import make_windows, score_baseline_losses, summarise_baselines
from finscale.runtime.runner import CACHED

__all__ = ["create_pipeline"]


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Return features -> windows -> baselines."""
    return Pipeline(
        [
            node(
                make_windows,
                ["features", "checked_bars", "params:definition", "params:cell.horizon"],
                ["windows", "window_warnings"],
                name="make_windows",
            ),
            node(
                score_baseline_losses,
                ["windows", "checked_bars"],
                "baseline_losses",
                name="score_baseline_losses",
            ),
            node(summarise_baselines, "baseline_losses", "baseline_scores", name="summarise_baselines"),
        ],
        tags=CACHED,
    )
