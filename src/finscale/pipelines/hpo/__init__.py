"""The search of one cell."""

from finscale.pipelines.hpo.pipeline import create_pipeline

__all__ = ["create_pipeline"]
