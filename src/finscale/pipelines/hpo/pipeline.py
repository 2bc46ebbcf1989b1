"""Lineage of the search."""

from typing import Any

from kedro.pipeline import Pipeline, node

from finscale.pipelines.hpo.nodes import search_cell, tabulate_trials
from finscale.runtime.preflight import NEEDS_DEVICE, SEARCHES

__all__ = ["create_pipeline"]


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Return grid + windows -> study -> best_params.json and the table of trials."""
    return Pipeline(
        [
            node(
                search_cell,
                [
                    *("arch_grid", "windows", "baseline_losses", "windows_folder", "study_folder"),
                    *("params:definition", "params:cell", "params:hpo", "params:training"),
                    "params:grid",
                    *("params:execution", "params:paths", "params:provenance"),
                ],
                ["study", "best_params", "search_summary"],
                name="search_cell",
                tags={NEEDS_DEVICE, SEARCHES},
            ),
            node(
                tabulate_trials,
                ["study", "search_summary", "params:definition", "params:cell"],
                ["trials", "trial_results"],
                name="tabulate_trials",
            ),
        ]
    )
