"""The admissible architectures of a budget."""

from finscale.pipelines.arch_grid.pipeline import create_pipeline

__all__ = ["create_pipeline"]
