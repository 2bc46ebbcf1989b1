"""Lineage of the features."""

from typing import Any

from kedro.pipeline import Pipeline, node

from finscale.pipelines.feature_engineering.nodes import check_bars, compute_feature_set, describe_bars
from finscale.runtime.runner import CACHED

__all__ = ["create_pipeline"]


def create_pipeline(**kwargs: Any) -> Pipeline:
    """Return bars -> checked bars -> features, with the data card beside them."""
    return Pipeline(
        [
            node(
                check_bars,
                ["bars", "params:feature_sets", "params:definition"],
                "checked_bars",
                name="check_bars",
            ),
            node(describe_bars, "checked_bars", "data_card", name="describe_bars"),
            node(
                compute_feature_set,
                ["checked_bars", "params:feature_sets", "params:definition"],
                "features",
                name="compute_feature_set",
            ),
        ],
        tags=CACHED,
    )
