"""Features and bars to windows: label, split, standardise, and count the positives."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault, raise_faults, suggest
from finscale.features.catalogue import CATALOGUE
from finscale.features.segments import segment_ids
from finscale.windows.data import WindowData, WindowSpec
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.plan import n_folds
from finscale.windows.rows import Rows, has_sessions, place_rows
from finscale.windows.splits import Division, Origins, split_faults, split_origins, training_rows
from finscale.windows.standardize import Standardizer
from finscale.windows.targets import future_is_known, targets, trailing_volatility
from finscale.windows.tasks import parse_task

__all__ = [
    "MIN_PER_CLASS",
    "WindowIndex",
    "build_windows",
    "few_positives",
    "index_windows",
]

MIN_PER_CLASS = 50
"""Positives, and negatives, below which the score of a split says little."""


@dataclass(frozen=True, eq=False)
class WindowIndex:
    """All of the windows but their features.

    Attributes
    ----------
    rows : Rows
    targets : float32 array (n_rows,), (n_rows, H) or (n_rows, 0)
    scale : float32 array (n_rows,)
        See `finscale.windows.targets.trailing_volatility`.
    origins : dict of int64 array
    training_rows : int64 array
        Rows that the standardizer is fitted on.
    """

    rows: Rows
    targets: NDArray[np.float32]
    scale: NDArray[np.float32]
    origins: Origins
    training_rows: NDArray[np.int64]


def build_windows(
    features: pd.DataFrame,
    bars: pd.DataFrame,
    *,
    experiment: ExperimentConfig,
    horizon: int,
    data_hash: str,
    fold: int = 0,
) -> tuple[WindowData, tuple[str, ...]]:
    """Build the windows of one experiment at one horizon, in one fold.

    Parameters
    ----------
    features : DataFrame
        One row for each of the last bars of every segment, without warm-up (`compute_features`).
    bars : DataFrame
        Canonical bars; labels come from them alone.
    horizon : int
        Bars from the origin to the end of its label.
    fold : int
        Below `finscale.windows.plan.n_folds` of the split.

    Returns
    -------
    WindowData
    tuple of str
        Warnings that belong on every result; empty unless ``allow_few_positives`` let something pass.

    Raises
    ------
    FinscaleError
        When features, bars and experiment do not go together, a split has no origins, or too few
        positives or negatives.
    """
    data = experiment.data
    raise_faults(_unfit(features, bars, data, horizon, fold))
    index = index_windows(features.index, bars, data=data, horizon=horizon, fold=fold)
    values = features.to_numpy(dtype=np.float64)
    bounds = _bounds(features) if data.leave_bounded else {}
    standardizer = Standardizer.fit(values[_as_slice(index.training_rows)], bounds=bounds)
    windows = WindowData(
        values=standardizer.transform(values),
        targets=index.targets,
        dates=index.rows.dates,
        origins=index.origins,
        spec=_spec(features, experiment, horizon, index.rows.names, data_hash, fold),
        standardizer=standardizer,
        sessions=index.rows.sessions,
        slots=index.rows.slots,
        instruments=index.rows.instruments,
        context_starts=index.rows.context_starts,
        scale=index.scale,
    )
    return windows, _gate(windows, allow=data.allow_few_positives)


def index_windows(
    index: pd.Index, bars: pd.DataFrame, *, data: DataConfig, horizon: int, fold: int = 0
) -> WindowIndex:
    """Label every row of a feature index, find its context, and split the origins.

    Raises
    ------
    Fault
        When the rows are not the last bars of each segment, or a split is left without an origin.
    """
    task, horizons = parse_task(data.task), _horizons(data, horizon)
    segments = segment_ids(bars.index, timescale=data.timescale)
    rows = place_rows(index, bars, segments=segments, context_reach=data.context_reach)
    scale = trailing_volatility(bars, segments)
    labels = targets(bars, task, touch=data.touch, horizons=horizons, segments=segments, scale=scale)[
        rows.bars
    ]
    known = future_is_known(rows.segments, max(horizons)) & ~np.isnan(labels.reshape(len(rows), -1)).any(
        axis=1
    )
    division: Division = {
        "split": data.split,
        "horizon": max(horizons),
        "lead": 1 if task.kind == "forecast" else 0,
        "fold": fold,
    }
    shortest = data.min_context_length or data.context_length
    origins = split_origins(rows, known, min_context_length=shortest, **division)
    assert not split_faults(origins, rows, min_context_length=shortest, **division)
    return WindowIndex(
        rows=rows,
        targets=labels,
        scale=scale[rows.bars].astype(np.float32),
        origins=origins,
        training_rows=training_rows(rows, origins, **division),
    )


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
    spec = windows.spec
    facts = few_positives(windows) if parse_task(spec.task).kind == "binary" else ()
    if not facts:
        return ()
    subject = f"{spec.task} at {spec.horizon} bars"
    if spec.n_folds > 1:
        subject += f", fold {spec.fold} of {spec.n_folds}"
    if windows.base_rate in (0.0, 1.0):
        remedy = "choose another threshold, a longer horizon or more data"
        raise Fault(subject, "have both classes among the training origins", "; ".join(facts), remedy)
    if not allow:
        rule = f"have at least {MIN_PER_CLASS} positives and negatives in train, validation and test"
        remedy = "choose a lower threshold, a longer horizon, more data, or data.allow_few_positives=true"
        raise Fault(subject, rule, "; ".join(facts), remedy)
    return tuple(f"few positives: {fact} ({subject}); scores there are very uncertain" for fact in facts)


def _unfit(
    features: pd.DataFrame, bars: pd.DataFrame, data: DataConfig, horizon: int, fold: int
) -> Iterator[Fault]:
    """What the experiment asks of a table, or of a cell, that it cannot give."""
    task, n = parse_task(data.task), n_folds(data.split)
    if horizon not in _horizons(data, horizon):
        remedy = "score one of them, or add it to data.horizons"
        yield Fault("horizon", f"be among data.horizons {data.horizons}", horizon, remedy)
    if not 0 <= fold < n:
        yield Fault("fold", f"be from 0 to {n - 1}", fold, "data.split.walk_forward.n_folds makes more folds")
    for column in (name for name in data.target_columns if name not in features.columns):
        yield Fault("data.target_columns", "be features", column, suggest(column, map(str, features.columns)))
    prices = () if task.kind == "forecast" else ("close", "high") if _reads_high(data) else ("close",)
    missing = [name for name in prices if name not in bars.columns]
    if missing:
        rule = f"be forecast where the table has no column {' and '.join(missing)}"
        yield Fault("data.task", rule, task.name, "choose data.task=forecast, or bars with prices")
    if data.context_reach == "session" and not has_sessions(bars):
        remedy = "remove it, or load bars with sessions"
        yield Fault("data.context_reach", "be series where the table has no sessions", "session", remedy)


def _bounds(features: pd.DataFrame) -> dict[int, tuple[float, float]]:
    """The columns whose definition bounds them."""
    rows = [CATALOGUE.get(str(name)) for name in features.columns]
    return {column: row.bounds for column, row in enumerate(rows) if row is not None and row.bounds}


def _reads_high(data: DataConfig) -> bool:
    return parse_task(data.task).rise is not None and data.touch == "high"


def _horizons(data: DataConfig, horizon: int) -> tuple[int, ...]:
    return data.horizons or (horizon,)


def _as_slice(rows: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """The same rows without a copy, where they stand together."""
    together = rows[-1] - rows[0] + 1 == len(rows)
    return slice(int(rows[0]), int(rows[-1]) + 1) if together else rows


def _spec(
    features: pd.DataFrame,
    experiment: ExperimentConfig,
    horizon: int,
    instruments: tuple[str, ...],
    data_hash: str,
    fold: int,
) -> WindowSpec:
    data, names = experiment.data, tuple(map(str, features.columns))
    kind = parse_task(data.task).kind
    times = pd.DatetimeIndex(features.index.get_level_values(-1))
    return WindowSpec(
        experiment=experiment.name,
        task=data.task,
        touch=data.touch,
        horizon=horizon,
        context_length=data.context_length,
        features=names,
        data_hash=data_hash,
        title=experiment.title,
        timescale=data.timescale,
        instruments=instruments,
        horizons=_horizons(data, horizon),
        quantile_levels=data.quantile_levels if kind == "quantile" else (),
        target_columns=(data.target_columns or names) if kind == "forecast" else (),
        context_reach=data.context_reach,
        min_context_length=data.min_context_length or data.context_length,
        time_name=str(times.name),
        time_zone=None if times.tz is None else str(times.tz),
        fold=fold,
        n_folds=n_folds(data.split),
    )
