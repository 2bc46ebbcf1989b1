"""How far back the forecasting models can look: the half of long_context_eval that asks a market."""

from finscale.pipelines.context_sweep.pipeline import create_pipeline

__all__ = ["create_pipeline"]
