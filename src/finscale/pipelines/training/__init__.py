"""The winner of a cell, retrained with fresh seeds and scored beside the baselines."""

from finscale.pipelines.training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
