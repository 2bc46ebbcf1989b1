"""Features to windows: label, split, standardise; then the baselines on the same rows."""

import pandas as pd

from finscale.windows.baselines import baseline_scores, baseline_table
from finscale.windows.build import build_windows
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig

__all__ = ["make_windows", "score_baseline_losses", "summarise_baselines"]


def make_windows(
    features: pd.DataFrame, checked_bars: pd.DataFrame, definition: ExperimentConfig, horizon: int
) -> tuple[WindowData, list[str]]:
    """Label from raw prices, split with purge, standardise on training rows."""
    windows, warnings = build_windows(
        features,
        checked_bars,
        experiment=definition,
        horizon=horizon,
        data_hash=features.attrs["data_hash"],
    )
    return windows, list(warnings)


def score_baseline_losses(windows: WindowData, checked_bars: pd.DataFrame) -> pd.DataFrame:
    """Score base rates, the volatility logistic and gradient boosting on validation and test rows."""
    return baseline_table(windows, checked_bars)


def summarise_baselines(baseline_losses: pd.DataFrame) -> pd.DataFrame:
    """Average the baselines by split."""
    return baseline_scores(baseline_losses)
