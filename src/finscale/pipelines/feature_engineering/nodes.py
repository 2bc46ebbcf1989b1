"""Bars to features: check at the door, describe, compute."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from finscale.features.catalogue import feature_names
from finscale.features.compute import compute_features, data_hash, warm_up_of
from finscale.features.data_card import data_card
from finscale.features.prepare import prepare_bars
from finscale.windows.experiment import DataConfig, ExperimentConfig

__all__ = ["check_bars", "compute_feature_set", "describe_bars"]


def check_bars(
    bars: pd.DataFrame, feature_sets: dict[str, list[str]], definition: ExperimentConfig
) -> pd.DataFrame:
    """Bring bars to the experiment's timescale; refuse what breaks the schema or the feature set's needs."""
    data = definition.data
    name = str(bars.attrs.get("symbol", "bars"))
    checked = prepare_bars(bars, name=name, timescale=data.timescale, start=data.start, end=data.end)
    names = _names(checked, feature_sets, data)
    warm_up_of(checked, names, timescale=data.timescale, feature_sets=feature_sets)
    return checked


def describe_bars(checked_bars: pd.DataFrame) -> dict[str, Any]:
    """Write the data card: source, sessions, rows, content hash, adjustments, repairs, warnings."""
    told = {str(name): value for name, value in checked_bars.attrs.items()}
    card = data_card(checked_bars, **told)
    return {**card.model_dump(mode="json"), "line": card.line()}


def compute_feature_set(
    checked_bars: pd.DataFrame, feature_sets: dict[str, list[str]], definition: ExperimentConfig
) -> pd.DataFrame:
    """Compute the experiment's feature set; the warm-up is dropped once."""
    names = _names(checked_bars, feature_sets, definition.data)
    table = compute_features(checked_bars, names, timescale=definition.data.timescale)
    frame = table.frame
    frame.attrs = {
        "data_hash": data_hash(checked_bars, names),
        "feature_set": definition.data.feature_set,
        "n_warm_up": table.n_warm_up,
        "slowest": table.slowest,
        "n_segments": table.n_segments,
        "n_vanished": table.n_vanished,
    }
    return frame


def _names(bars: pd.DataFrame, feature_sets: Mapping[str, Sequence[str]], data: DataConfig) -> list[str]:
    """The experiment's features: a named list, or the columns of a table that has no bars."""
    if bars.attrs.get("kind") == "series":
        return [str(column) for column in bars.columns]
    return list(feature_names(feature_sets, data.feature_set))
