"""Lineage of the long-context evaluation."""

from typing import Any

from kedro.pipeline import Pipeline, node

from finscale.pipelines.long_context_eval.nodes import (
    draw_retrieval,
    evaluate_retrieval,
    judge_retrieval,
    measure_positions,
    measure_streams,
    probe_decoders,
    train_decoders,
)
from finscale.runtime.runner import CACHED

__all__ = ["create_pipeline"]

_BLOCK = ["params:long_context", "params:long_context_blocks", "params:ablation_value"]


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Return block -> trained decoders -> rows of accuracy, cost and probes -> verdict, figures and page."""
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
                measure_streams,
                _BLOCK,
                ["long_context_system", "long_context_system_csv"],
                name="measure_streams",
            ),
            node(
                probe_decoders,
                ["long_context_weights", "long_context_record", *_BLOCK],
                ["long_context_attention", "long_context_distance_losses"],
                name="probe_decoders",
            ),
            node(measure_positions, _BLOCK, "long_context_positions", name="measure_positions"),
            node(
                judge_retrieval,
                ["long_context_rows", "long_context_system", *_BLOCK],
                "long_context_verdict",
                name="judge_retrieval",
            ),
            node(
                draw_retrieval,
                [
                    *("long_context_rows", "long_context_system", "long_context_attention"),
                    *("long_context_distance_losses", "long_context_positions", "long_context_verdict"),
                    *("long_context_record", "params:provenance", *_BLOCK),
                ],
                ["long_context_figures", "long_context_report", "long_context_section"],
                name="draw_retrieval",
            ),
        ],
        tags=CACHED,
    )
