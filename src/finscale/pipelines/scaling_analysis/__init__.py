"""The verdict over all finished cells."""

from finscale.pipelines.scaling_analysis.pipeline import create_pipeline

__all__ = ["create_pipeline"]
