"""Lineage of the long-context evaluation."""

from typing import Any

from kedro.pipeline import Pipeline, node

from finscale.pipelines.long_context_eval.nodes import draw_retrieval, evaluate_retrieval, train_decoders
from finscale.runtime.runner import CACHED

__all__ = ["create_pipeline"]

_BLOCK = ["params:long_context", "params:long_context_blocks"]


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Return block -> trained decoders -> retrieval rows -> figures."""
    return Pipeline(
        [
            node(
                train_decoders,
                _BLOCK,
                ["long_context_weights", "long_context_curves", "long_context_record"],
                name="train_decoders",
            ),
            node(
                evaluate_retrieval,
                ["long_context_weights", "long_context_record", *_BLOCK],
                ["long_context_rows", "long_context_metrics"],
                name="evaluate_retrieval",
            ),
            node(
                draw_retrieval,
                ["long_context_rows", "long_context_record", "params:provenance", *_BLOCK],
                ["long_context_retrieval", "long_context_depths"],
                name="draw_retrieval",
            ),
        ],
        tags=CACHED,
    )
