"""Features and bars to windows: label, split, standardise, and count the positives."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault, raise_faults, suggest
from finscale.features.catalogue import CATALOGUE
from finscale.features.segments import segment_ids
from finscale.windows.classes import class_faults, untrained_labels
from finscale.windows.data import WindowData, WindowSpec
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.plan import n_folds
from finscale.windows.rows import Rows, are_sequences, has_sessions, place_rows
from finscale.windows.splits import (
    Division,
    Origins,
    sequence_faults,
    split_faults,
    split_origins,
    training_rows,
)
from finscale.windows.standardize import Standardizer
from finscale.windows.targets import future_is_known, targets, trailing_volatility
from finscale.windows.tasks import parse_task
from finscale.windows.vocabulary import vocabularies_of

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
    targets : float32 array (n_rows,), (n_rows, H), (n_rows, K) or (n_rows, 0)
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
        Canonical bars; labels come from them alone. ``attrs["vocabularies"]`` names the categorical columns
        of a series and their labels, in the order of their codes.
    horizon : int
        Bars from the origin to the end of its label.
    fold : int
        Below `finscale.windows.plan.n_folds` of the split.

    Returns
    -------
    WindowData
    tuple of str
        Warnings that belong on every result: what ``allow_few_positives`` let pass, and labels that are shown
        only where nothing is trained.

    Raises
    ------
    FinscaleError
        When features, bars and experiment do not go together, a split has no origins, or too few
        positives or negatives.
    """
    data = experiment.data
    raise_faults(_unfit(features, bars, data, horizon, fold))
    index = index_windows(features.index, bars, data=data, horizon=horizon, fold=fold)
    categories = [str(name) for name in features.columns if name in vocabularies_of(bars)]
    shown = features.drop(columns=categories) if categories else features
    values = shown.to_numpy(dtype=np.float64)
    bounds = _bounds(shown) if data.leave_bounded else {}
    standardizer = Standardizer.fit(values[_as_slice(index.training_rows)], bounds=bounds)
    windows = WindowData(
        values=standardizer.transform(values),
        targets=index.targets,
        dates=index.rows.dates,
        origins=index.origins,
        spec=_spec(features, bars, experiment, horizon, index.rows.names, data_hash, fold),
        standardizer=standardizer,
        sessions=index.rows.sessions,
        slots=index.rows.slots,
        instruments=index.rows.instruments,
        context_starts=index.rows.context_starts,
        scale=index.scale,
        categories=features[categories].to_numpy(dtype=np.int32),
    )
    raise_faults(class_faults(windows))
    return windows, (
        *_gate(windows, allow=data.allow_few_positives),
        *untrained_labels(windows, index.training_rows),
    )


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
    columns = data.target_columns or tuple(vocabularies_of(bars))
    labels = targets(
        bars, task, touch=data.touch, horizons=horizons, segments=segments, scale=scale, columns=columns
    )[rows.bars]
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
    """Return a sentence for train, whole validation or test with under 50 positives or negatives.

    Only a yes-or-no task has them; there is nothing to say of any other.
    """
    if parse_task(windows.spec.task).kind != "binary":
        return ()
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
    facts = few_positives(windows)
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
    yield from _unknown_columns(features, bars, data)
    if are_sequences(bars.index):
        yield from sequence_faults(data.split)
    missing = [name for name in _prices(data) if name not in bars.columns]
    if missing:
        rule = f"be forecast or classes where the table has no column {' and '.join(missing)}"
        yield Fault("data.task", rule, task.name, "choose data.task=forecast, or bars with prices")
    if data.context_reach == "session" and not has_sessions(bars):
        remedy = "remove it, or load bars with sessions"
        yield Fault("data.context_reach", "be series where the table has no sessions", "session", remedy)


def _unknown_columns(features: pd.DataFrame, bars: pd.DataFrame, data: DataConfig) -> Iterator[Fault]:
    """Target columns that are not there: real-valued ones of a forecast, categorical ones of classes."""
    kind, vocabularies = parse_task(data.task).kind, vocabularies_of(bars)
    if kind not in ("forecast", "classes"):
        return
    what = "categorical columns" if kind == "classes" else "features"
    legal = [str(name) for name in features.columns if (name in vocabularies) == (kind == "classes")]
    if not legal:
        got = f"only {', '.join(map(str, features.columns))}"
        yield Fault("the table", f"have {what} for data.task={data.task}", got, "name them in its source")
        return
    for column in (name for name in data.target_columns if name not in legal):
        yield Fault("data.target_columns", f"be {what}", column, suggest(column, legal))


def _bounds(features: pd.DataFrame) -> dict[int, tuple[float, float]]:
    """The columns whose definition bounds them."""
    rows = [CATALOGUE.get(str(name)) for name in features.columns]
    return {column: row.bounds for column, row in enumerate(rows) if row is not None and row.bounds}


def _prices(data: DataConfig) -> tuple[str, ...]:
    """The prices that the target is made of."""
    task = parse_task(data.task)
    if task.kind in ("forecast", "classes"):
        return ()
    return ("close", "high") if task.rise is not None and data.touch == "high" else ("close",)


def _horizons(data: DataConfig, horizon: int) -> tuple[int, ...]:
    return data.horizons or (horizon,)


def _as_slice(rows: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """The same rows without a copy, where they stand together."""
    together = rows[-1] - rows[0] + 1 == len(rows)
    return slice(int(rows[0]), int(rows[-1]) + 1) if together else rows


def _spec(
    features: pd.DataFrame,
    bars: pd.DataFrame,
    experiment: ExperimentConfig,
    horizon: int,
    instruments: tuple[str, ...],
    data_hash: str,
    fold: int,
) -> WindowSpec:
    data, kind, vocabularies = experiment.data, parse_task(experiment.data.task).kind, vocabularies_of(bars)
    names = [str(name) for name in features.columns]
    real = tuple(name for name in names if name not in vocabularies)
    every = {"forecast": real, "classes": tuple(vocabularies)}.get(kind, ())
    columns = data.target_columns or every
    times = pd.DatetimeIndex(features.index.get_level_values(-1))
    return WindowSpec(
        experiment=experiment.name,
        task=data.task,
        touch=data.touch,
        horizon=horizon,
        context_length=data.context_length,
        features=real,
        data_hash=data_hash,
        title=experiment.title,
        timescale=data.timescale,
        instruments=instruments,
        horizons=_horizons(data, horizon),
        quantile_levels=data.quantile_levels if kind == "quantile" else (),
        target_columns=columns,
        categories=tuple(name for name in names if name in vocabularies),
        vocabularies=vocabularies,
        n_classes=tuple(len(vocabularies[name]) for name in columns) if kind == "classes" else (),
        context_reach=data.context_reach,
        min_context_length=data.min_context_length or data.context_length,
        session_bars=int(bars["slot"].max()) + 1 if has_sessions(bars) else 1,
        time_name=str(times.name),
        time_zone=None if times.tz is None else str(times.tz),
        fold=fold,
        n_folds=n_folds(data.split),
    )
