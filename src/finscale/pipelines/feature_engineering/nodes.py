"""Bars to features: check at the door, describe, compute."""

from typing import Any

import pandas as pd

from finscale.features.bars import validate_bars
from finscale.features.catalogue import feature_names
from finscale.features.compute import compute_features, data_hash, warm_up_of
from finscale.features.data_card import data_card
from finscale.windows.experiment import ExperimentConfig

__all__ = ["check_bars", "compute_feature_set", "describe_bars"]


def check_bars(
    bars: pd.DataFrame, feature_sets: dict[str, list[str]], definition: ExperimentConfig
) -> pd.DataFrame:
    """Refuse bars that break the schema, or that are too few for the feature set; nothing is repaired."""
    checked = validate_bars(bars, name=str(bars.attrs.get("symbol", "bars")))
    warm_up_of(checked, feature_names(feature_sets, definition.data.feature_set))
    return checked


def describe_bars(checked_bars: pd.DataFrame) -> dict[str, Any]:
    """Write the data card: source, sessions, rows, content hash, adjustments, repairs."""
    told = {str(name): value for name, value in checked_bars.attrs.items()}
    card = data_card(checked_bars, **told)
    return {**card.model_dump(mode="json"), "line": card.line()}


def compute_feature_set(
    checked_bars: pd.DataFrame, feature_sets: dict[str, list[str]], definition: ExperimentConfig
) -> pd.DataFrame:
    """Compute the experiment's feature set; the warm-up is dropped once."""
    names = feature_names(feature_sets, definition.data.feature_set)
    table = compute_features(checked_bars, names)
    frame = table.frame
    frame.attrs = {
        "data_hash": data_hash(checked_bars, names),
        "feature_set": definition.data.feature_set,
        "n_warm_up": table.n_warm_up,
        "slowest": table.slowest,
    }
    return frame
