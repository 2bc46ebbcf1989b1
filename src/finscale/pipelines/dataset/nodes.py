"""Features to windows: label, split, standardise; the baselines on the same rows; how the features drift."""

from typing import Any

import pandas as pd

from finscale.features.drift import drift_report
from finscale.reporting.feature_figures import drift_figure, feature_page
from finscale.windows.baselines import baseline_scores, baseline_table
from finscale.windows.build import build_windows
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig
from finscale.windows.plan import n_folds

__all__ = [
    "draw_drift",
    "draw_features",
    "make_windows",
    "measure_drift",
    "score_baseline_losses",
    "summarise_baselines",
]


def make_windows(
    features: pd.DataFrame, checked_bars: pd.DataFrame, definition: ExperimentConfig, horizon: int
) -> tuple[WindowData, list[WindowData], list[str]]:
    """Label from raw prices, split with purge, standardise on training rows; once for every fold."""
    built = [
        build_windows(
            features,
            checked_bars,
            experiment=definition,
            horizon=horizon,
            data_hash=features.attrs["data_hash"],
            fold=fold,
        )
        for fold in range(n_folds(definition.data.split))
    ]
    folds = [windows for windows, _ in built]
    warnings = [warning for _, found in built for warning in found]
    return folds[0], folds[1:], [*_vanished(features), *warnings]


def _vanished(features: pd.DataFrame) -> list[str]:
    n, n_segments, slowest = (features.attrs[name] for name in ("n_vanished", "n_segments", "slowest"))
    rest = f"are no longer than the warm-up of {slowest} and left no row"
    return [f"{n} of {n_segments} uninterrupted stretches of bars {rest}"] if n else []


def score_baseline_losses(
    windows: WindowData, later_folds: list[WindowData], checked_bars: pd.DataFrame
) -> pd.DataFrame:
    """Score base rates, volatility forecasts and gradient boosting on validation and test rows."""
    folds = (windows, *later_folds)
    tables = [baseline_table(data, checked_bars).assign(fold=data.spec.fold) for data in folds]
    return pd.concat(tables, ignore_index=True)


def summarise_baselines(baseline_losses: pd.DataFrame) -> pd.DataFrame:
    """Average the baselines by split."""
    return baseline_scores(baseline_losses)


def measure_drift(features: pd.DataFrame, windows: WindowData) -> pd.DataFrame:
    """Compare each feature's distribution in validation and test with that of training."""
    return drift_report(features, windows.origins)


def draw_drift(feature_drift: pd.DataFrame) -> Any:
    """Draw the features by how far they have drifted."""
    return drift_figure(feature_drift)


def draw_features(
    features: pd.DataFrame, checked_bars: pd.DataFrame, windows: WindowData, definition: ExperimentConfig
) -> Any:
    """Draw the features over time, with the splits and the price above them."""
    simulated = "SIMULATED data: " if checked_bars.attrs.get("simulated") else ""
    return feature_page(features, checked_bars, windows.origins, title=simulated + definition.title)
