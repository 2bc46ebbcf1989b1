"""The maps of features hold the correlations and the one window that they say they hold."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finscale.datasets.atomic import plain_figure
from finscale.reporting.families import by_family
from finscale.reporting.feature_maps import correlation_figure, window_figure
from finscale.windows.data import WindowData, WindowSpec
from finscale.windows.standardize import Standardizer

NAMES = ("rsi_14", "close", "atr_14", "open")


def make_windows(*, targets: np.ndarray | None = None, **changes: Any) -> WindowData:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 4)).astype(np.float32)
    facts = {"experiment": "demo", "task": "direction", "touch": "high", "horizon": 2, "context_length": 8}
    facts |= {"features": NAMES, "data_hash": "abc", "title": "demo", "min_context_length": 3} | changes
    splits = ("train", "val_select", "val_score", "test")
    return WindowData(
        values=values,
        targets=np.tile(np.float32([0, 1]), 50) if targets is None else targets,
        dates=pd.bdate_range("2020-01-01", periods=100).to_numpy(dtype="datetime64[ns]"),
        origins={split: np.arange(20 + 10 * i, 25 + 10 * i) for i, split in enumerate(splits)},
        spec=WindowSpec(**facts),
        standardizer=Standardizer(mean=np.zeros(4), std=np.ones(4)),
        context_starts=np.where(np.arange(100) < 17, 0, 17).astype(np.int64),
    )


def test_the_correlations_are_those_of_ranks_in_the_order_of_the_families() -> None:
    features = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 4)), columns=list(NAMES))
    features["atr_14"] = np.exp(features["close"])
    trace = correlation_figure(features).data[0]
    assert list(trace.x) == list(trace.y) == [label.name for label in by_family(NAMES)]
    expected = features[list(trace.x)].rank().corr().to_numpy()
    assert np.array(trace.z, dtype=float) == pytest.approx(expected, abs=1e-3)
    place = {name: i for i, name in enumerate(trace.x)}
    assert trace.z[place["atr_14"]][place["close"]] == 1.0


def test_each_family_is_named_once_beside_its_rows_and_ruled_off() -> None:
    features = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 4)), columns=list(NAMES))
    figure = correlation_figure(features)
    labels = by_family(NAMES)
    rows: dict[str, list[int]] = {label.family: [] for label in labels}
    for i, label in enumerate(labels):
        rows[label.family].append(i)
    middles = {family: np.mean(places) for family, places in rows.items()}
    assert {note.text: note.y for note in figure.layout.annotations} == middles
    assert len(figure.layout.shapes) == 2 * (len(rows) - 1)


def test_a_constant_feature_correlates_with_nothing_and_the_figure_is_still_plain() -> None:
    features = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 4)), columns=list(NAMES))
    figure = correlation_figure(features.assign(close=1.0))
    place = list(figure.data[0].x).index("close")
    assert figure.data[0].z[place][place] is None
    assert "bdata" not in json.dumps(plain_figure(figure), allow_nan=False)


def test_a_window_shows_what_the_model_reads_and_leaves_masked_steps_blank() -> None:
    windows = make_windows()
    trace = window_figure(windows, 21).data[0]
    assert list(trace.x) == list(range(-7, 1))
    for name, row in zip(trace.y, trace.z, strict=True):
        column = windows.values[:, NAMES.index(name)]
        assert list(row[:3]) == [None] * 3
        assert list(row[3:]) == pytest.approx(column[17:22], abs=1e-3)


def test_a_window_never_shows_a_row_after_its_origin() -> None:
    windows = make_windows()
    later = windows.values.copy()
    later[31:] += 100
    changed = WindowData(**{**vars(windows), "values": later})
    assert window_figure(windows, 30) == window_figure(changed, 30)


@pytest.mark.parametrize(
    ("targets", "changes", "said"),
    [
        (None, {}, "direction, 2 bars ahead: 1"),
        (np.full(100, -1.25, dtype=np.float32), {"task": "regression"}, "regression, 2 bars ahead: -1.25"),
        (
            np.full((100, 2), 0.5, dtype=np.float32),
            {"task": "quantile", "horizons": (1, 2), "quantile_levels": (0.1, 0.9)},
            "quantile, 2 bars ahead: 0.5, 0.5",
        ),
        (np.empty((100, 0), dtype=np.float32), {"task": "forecast"}, "forecast, 2 bars ahead"),
    ],
)
def test_the_title_tells_the_day_the_question_and_its_answer(
    targets: np.ndarray | None, changes: dict[str, Any], said: str
) -> None:
    first, second = window_figure(make_windows(targets=targets, **changes), 21).layout.title.text.split(
        "<br>"
    )
    assert first == "What the model sees at 2020-01-30"
    assert second == said


def test_a_window_of_a_panel_names_its_instrument() -> None:
    windows = make_windows(instruments=("AAA", "BBB"))
    codes = np.r_[np.zeros(17), np.ones(83)].astype(np.int32)
    title = window_figure(WindowData(**{**vars(windows), "instruments": codes}), 21).layout.title.text
    assert "(BBB)" in title
