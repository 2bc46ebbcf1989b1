"""Trained decoders to retrieval accuracy."""

from finscale.pipelines.long_context_eval.pipeline import create_pipeline

__all__ = ["create_pipeline"]
