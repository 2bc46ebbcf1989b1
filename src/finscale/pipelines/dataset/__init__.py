"""Features to windows, and the baselines on the same rows."""

from finscale.pipelines.dataset.pipeline import create_pipeline

__all__ = ["create_pipeline"]
