"""Features and bars to windows: label, split, standardise, and count the positives."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault
from finscale.windows.data import WindowData, WindowSpec
from finscale.windows.experiment import ExperimentConfig
from finscale.windows.splits import split_faults, split_origins
from finscale.windows.standardize import Standardizer
from finscale.windows.targets import targets
from finscale.windows.tasks import parse_task

__all__ = ["MIN_PER_CLASS", "build_windows", "few_positives"]

MIN_PER_CLASS = 50
"""Positives, and negatives, below which the score of a split says little."""


def build_windows(
    features: pd.DataFrame, bars: pd.DataFrame, *, experiment: ExperimentConfig, horizon: int, data_hash: str
) -> tuple[WindowData, tuple[str, ...]]:
    """Build the windows of one experiment at one horizon.

    Parameters
    ----------
    features : DataFrame
        One row for each of the last bars, without warm-up (`compute_features`).
    bars : DataFrame
        Validated bars; labels come from them alone.
    horizon : int
        Bars from the origin to the end of its label.

    Returns
    -------
    WindowData
    tuple of str
        Warnings that belong on every result; empty unless ``allow_few_positives`` let something pass.

    Raises
    ------
    Fault
        When a split has no origins, or too few positives or negatives.
    """
    data = experiment.data
    labels = _aligned_targets(features, bars, experiment, horizon)
    context_length = data.context_length
    origins = split_origins(len(features), horizon=horizon, context_length=context_length, split=data.split)
    assert not split_faults(origins, horizon=horizon, gap=data.split.gap)
    rows = features.to_numpy(dtype=np.float64)
    standardizer = Standardizer.fit(rows[: origins["train"][-1] + 1])
    windows = WindowData(
        values=standardizer.transform(rows),
        targets=labels,
        dates=pd.DatetimeIndex(features.index).to_numpy(dtype="datetime64[ns]"),
        origins=origins,
        spec=_spec(experiment, horizon, tuple(features.columns), data_hash),
        standardizer=standardizer,
    )
    return windows, _gate(windows, allow=data.allow_few_positives)


def few_positives(windows: WindowData) -> tuple[str, ...]:
    """Return a sentence for train, whole validation or test with under 50 positives or negatives."""
    parts = {
        "train": windows.targets_at("train"),
        "validation": np.concatenate([windows.targets_at("val_select"), windows.targets_at("val_score")]),
        "test": windows.targets_at("test"),
    }
    counts = {name: (int(labels.sum()), int(len(labels) - labels.sum())) for name, labels in parts.items()}
    return tuple(
        f"{name} has {positives} positives and {negatives} negatives"
        for name, (positives, negatives) in counts.items()
        if min(positives, negatives) < MIN_PER_CLASS
    )


def _gate(windows: WindowData, *, allow: bool) -> tuple[str, ...]:
    facts = few_positives(windows)
    if not facts:
        return ()
    subject = f"{windows.spec.task} at {windows.spec.horizon} bars"
    if windows.base_rate in (0.0, 1.0):
        remedy = "choose another threshold, a longer horizon or more data"
        raise Fault(subject, "have both classes among the training origins", "; ".join(facts), remedy)
    if not allow:
        rule = f"have at least {MIN_PER_CLASS} positives and negatives in train, validation and test"
        remedy = "choose a lower threshold, a longer horizon, more data, or data.allow_few_positives=true"
        raise Fault(subject, rule, "; ".join(facts), remedy)
    return tuple(f"few positives: {fact} ({subject}); scores there are very uncertain" for fact in facts)


def _aligned_targets(
    features: pd.DataFrame, bars: pd.DataFrame, experiment: ExperimentConfig, horizon: int
) -> NDArray[np.float32]:
    n_rows = len(features)
    if n_rows == 0 or not features.index.equals(bars.index[-n_rows:]):
        remedy = "compute the features from these bars"
        raise Fault("features", "cover the last bars, each of them", f"{n_rows} other rows", remedy)
    task = parse_task(experiment.data.task)
    return targets(bars, task, touch=experiment.data.touch, horizon=horizon)[-n_rows:]


def _spec(
    experiment: ExperimentConfig, horizon: int, features: tuple[str, ...], data_hash: str
) -> WindowSpec:
    return WindowSpec(
        experiment=experiment.name,
        task=experiment.data.task,
        touch=experiment.data.touch,
        horizon=horizon,
        context_length=experiment.data.context_length,
        features=features,
        data_hash=data_hash,
        title=experiment.title,
    )
