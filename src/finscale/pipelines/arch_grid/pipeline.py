"""Lineage of the architecture grid."""

from typing import Any

from kedro.pipeline import Pipeline, node

from finscale.pipelines.arch_grid.nodes import draw_grid, enumerate_architectures
from finscale.runtime.runner import CACHED

__all__ = ["create_pipeline"]


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Return windows -> the grid of one budget -> its map."""
    return Pipeline(
        [
            node(
                enumerate_architectures,
                ["params:cell", "windows", "params:model", "params:grid"],
                "arch_grid",
                name="enumerate_architectures",
                tags=CACHED,
            ),
            node(draw_grid, "arch_grid", "arch_grid_map", name="draw_grid", tags=CACHED),
        ]
    )
