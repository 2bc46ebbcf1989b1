"""The page of features reaches every feature, draws only what the data hold, and shades the splits' dates."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import yaml

from finscale.core.errors import FinscaleError
from finscale.datasets.atomic import plain_figure, plotly_preview
from finscale.features.catalogue import CATALOGUE
from finscale.features.drift import drift_report
from finscale.reporting.feature_figures import drift_figure, feature_page
from finscale.reporting.template import INK

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_feature_engineering.yml"
SETS: dict[str, list[str]] = yaml.safe_load(CONF.read_text())["feature_sets"]
WARM_UP = 40
Origins = dict[str, np.ndarray]


def make_bars(n_rows: int, *, start: str = "1999-01-04", seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 1000 * np.exp(np.cumsum(rng.normal(0, 0.01, n_rows)))
    sessions = pd.bdate_range(start, periods=n_rows, name="session")
    return pd.DataFrame({"open": close, "high": close * 1.01, "low": close * 0.99, "close": close}, sessions)


def make_features(bars: pd.DataFrame, names: list[str], *, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    kept = bars.index[WARM_UP:]
    return pd.DataFrame(rng.normal(size=(len(kept), len(names))), index=kept, columns=names)


def make_origins(n_rows: int, *, context_length: int = 20) -> Origins:
    starts = [context_length - 1, *(round(n_rows * share) for share in (0.7, 0.775, 0.85))]
    ends = [*starts[1:], n_rows]
    splits = ("train", "val_select", "val_score", "test")
    return {split: np.arange(start, end - 5) for split, start, end in zip(splits, starts, ends, strict=True)}


def make_page(n_rows: int = 500, names: list[str] | None = None) -> tuple[go.Figure, pd.DataFrame, Origins]:
    bars = make_bars(n_rows)
    features = make_features(bars, names or SETS["a25"])
    origins = make_origins(len(features))
    return feature_page(features, bars, origins, title="demo"), features, origins


def buttons(figure: go.Figure) -> list[go.layout.updatemenu.Button]:
    return list(figure.layout.updatemenus[0].buttons)


def shown_by(figure: go.Figure, button: go.layout.updatemenu.Button) -> list[go.Scatter]:
    """Return the traces that choosing an entry leaves visible."""
    visible = button.args[0]["visible"]
    assert len(visible) == len(figure.data)
    return [trace for trace, on in zip(figure.data, visible, strict=True) if on]


def bands(figure: go.Figure) -> list[tuple[str, str, str, str]]:
    return [(shape.name, shape.xref, shape.x0, shape.x1) for shape in figure.layout.shapes]


@pytest.mark.parametrize("feature_set", [name for name, features in SETS.items() if features])
def test_every_feature_of_a_set_is_reached_by_one_entry_of_the_menu(feature_set: str) -> None:
    names = SETS[feature_set]
    figure, _, _ = make_page(150, names)
    curves = [[t for t in shown_by(figure, button) if t.xaxis == "x"] for button in buttons(figure)]
    assert all(len(found) == 1 for found in curves)
    reached = [found[0].name for found in curves]
    assert sorted(reached) == sorted(names)
    for button, name in zip(buttons(figure), reached, strict=True):
        row = CATALOGUE[name]
        assert button.label.startswith(f"{row.family} · {name} ({row.source[:6]}")
        assert button.args[1]["annotations[0].text"].startswith(row.source)
        assert str(row.lookback) in button.args[1]["annotations[0].text"]


@pytest.mark.parametrize("feature_set", SETS)
def test_the_menu_follows_the_families_and_the_order_of_the_catalogue(feature_set: str) -> None:
    figure, _, _ = make_page(150, SETS[feature_set][::-1])
    names = [shown_by(figure, button)[1].name for button in buttons(figure)]
    families = list(dict.fromkeys(row.family for row in CATALOGUE.values()))
    rows = list(CATALOGUE)
    assert names == sorted(names, key=lambda name: (families.index(CATALOGUE[name].family), rows.index(name)))


def test_every_choice_shows_the_close_one_curve_and_three_distributions_of_one_feature() -> None:
    figure, _, _ = make_page()
    for button in buttons(figure):
        close, curve, *shares = shown_by(figure, button)
        assert (close.name, close.xaxis, close.yaxis) == ("close", "x2", "y2")
        assert [trace.name for trace in shares] == ["train", "validation", "test"]
        assert {trace.legendgroup for trace in shares} == {curve.name}
        assert {trace.yaxis for trace in (curve, *shares)} == {"y"}


def test_the_page_opens_as_its_active_entry_would_leave_it() -> None:
    figure, _, _ = make_page()
    menu = figure.layout.updatemenus[0]
    chosen = menu.buttons[menu.active]
    assert [trace.visible is not False for trace in figure.data] == chosen.args[0]["visible"]
    assert figure.layout.annotations[0].text == chosen.args[1]["annotations[0].text"]


def test_the_bands_reach_from_the_first_to_the_last_date_of_each_split_in_both_panels() -> None:
    figure, features, origins = make_page()
    for split, rows in origins.items():
        first, last = (str(features.index[row].date()) for row in (rows[0], rows[-1]))
        assert [band for band in bands(figure) if band[0] == split] == [
            (split, "x", first, last),
            (split, "x2", first, last),
        ]
        assert [note.text for note in figure.layout.annotations].count(split) == 1


def test_the_warm_up_band_covers_the_bars_that_have_no_features() -> None:
    figure, _, _ = make_page()
    sessions = make_bars(500).index
    first, last = str(sessions[0].date()), str(sessions[WARM_UP - 1].date())
    assert [band for band in bands(figure) if band[0] == "warm-up"] == [
        ("warm-up", "x", first, last),
        ("warm-up", "x2", first, last),
    ]


def test_nothing_is_drawn_that_is_not_a_row_of_the_data() -> None:
    figure, features, _ = make_page(8000, ["close", "rsi_14", "atr_14"])
    tables = {"x2": make_bars(8000), "x": features}
    for trace in figure.data:
        if trace.xaxis == "x3":
            continue
        series = tables[trace.xaxis][trace.name]
        drawn = series.loc[pd.DatetimeIndex(list(trace.x))]
        assert 2000 < len(drawn) <= 3000
        assert list(trace.y) == pytest.approx(drawn.tolist(), abs=1e-4 * np.ptp(series))


def test_a_spike_of_one_bar_is_drawn_on_its_day() -> None:
    bars = make_bars(9000)
    features = make_features(bars, ["rsi_14"])
    features.iloc[4321, 0], features.iloc[777, 0] = 50.0, -50.0
    figure = feature_page(features, bars, make_origins(len(features)), title="demo")
    points = dict(zip(figure.data[1].x, figure.data[1].y, strict=True))
    assert points[str(features.index[4321].date())] == 50.0
    assert points[str(features.index[777].date())] == -50.0


def test_a_distribution_holds_each_window_of_its_splits_once() -> None:
    figure, features, origins = make_page(500, ["rsi_14"])
    values = features["rsi_14"].to_numpy()
    joined = np.concatenate([origins["val_select"], origins["val_score"]])
    rows = {"train": origins["train"], "validation": joined, "test": origins["test"]}
    for trace in figure.data[2:]:
        shares, edges = np.array(trace.x[1:-1]), np.array(trace.y[:-1])
        assert shares.sum() == pytest.approx(1, abs=1e-3)
        below = (values[rows[trace.name]] < edges[15]).mean()
        assert shares[:15].sum() == pytest.approx(below, abs=1e-3)
    legend = figure.layout.annotations[1].text
    assert all(f"{group} {len(at):,}" in legend for group, at in rows.items())


def test_a_constant_feature_has_a_page_too() -> None:
    bars = make_bars(200)
    features = make_features(bars, ["rsi_14"]) * 0 + 3.0
    figure = feature_page(features, bars, make_origins(len(features)), title="demo")
    assert max(figure.data[2].x) == 1.0


def test_the_saved_page_has_plain_lists_and_stays_light() -> None:
    figure, _, _ = make_page(5031)
    text = json.dumps(plain_figure(figure), indent=2, allow_nan=False)
    assert "bdata" not in text + figure.to_json()
    assert len(text) < 4e6


def test_a_preview_recolours_the_curves_and_leaves_the_menu_its_ink() -> None:
    figure, _, _ = make_page(200)
    before = plain_figure(figure)
    after = plotly_preview(before)
    assert before["data"][0]["line"]["color"] == INK
    assert INK not in json.dumps(after)
    menus = [page["layout"]["updatemenus"][0]["font"]["color"] for page in (before, after)]
    assert menus[0] == menus[1]


def test_a_panel_shows_one_instrument_and_names_it() -> None:
    parts = {"AAA": make_bars(300), "BBB": make_bars(500, start="2005-03-01", seed=5)}
    bars = pd.concat(parts, names=["instrument"])
    features = pd.concat({name: make_features(part, ["rsi_14"]) for name, part in parts.items()})
    first_of_second = 300 - WARM_UP
    origins = make_origins(first_of_second)
    own = make_origins(500 - WARM_UP)
    both = {split: np.concatenate([origins[split], first_of_second + own[split]]) for split in own}
    for name, figure in (
        ("AAA", feature_page(features, bars, both, title="demo")),
        ("BBB", feature_page(features, bars, both, title="demo", instrument="BBB")),
    ):
        alone = feature_page(
            features.loc[name], parts[name], {"AAA": origins, "BBB": own}[name], title="demo"
        )
        assert figure.layout.title.text == f"demo: {name}"
        assert name in figure.layout.meta["note"]
        assert figure.data == alone.data
        assert figure.layout.shapes == alone.layout.shapes


def test_an_instrument_that_the_panel_lacks_is_refused_with_its_nearest_match() -> None:
    bars = pd.concat({"AAA": make_bars(100)}, names=["instrument"])
    features = bars[["close"]].iloc[WARM_UP:]
    origins = make_origins(60, context_length=2)
    with pytest.raises(FinscaleError, match="AAA"):
        feature_page(features, bars, origins, title="demo", instrument="AAB")
    with pytest.raises(FinscaleError, match="without a panel"):
        feature_page(features.loc["AAA"], bars.loc["AAA"], origins, title="demo", instrument="AAA")


def test_a_split_in_which_the_instrument_has_no_window_is_not_drawn() -> None:
    bars = make_bars(200)
    features = make_features(bars, ["rsi_14"])
    origins = make_origins(len(features)) | {"train": np.empty(0, dtype=np.int64)}
    figure = feature_page(features, bars, origins, title="demo")
    assert [trace.name for trace in figure.data] == ["close", "rsi_14", "validation", "test"]
    assert "train" not in [band[0] for band in bands(figure)]


def test_intraday_bars_are_drawn_in_utc_and_the_axis_says_so() -> None:
    bars = make_bars(300)
    bars.index = pd.date_range("2020-01-02 09:30", periods=300, freq="5min", tz="America/New_York")
    features = make_features(bars, ["rsi_14"])
    figure = feature_page(features, bars, make_origins(len(features)), title="demo")
    assert figure.data[0].x[0] == "2020-01-02T14:30"
    assert figure.layout.xaxis.title.text == "UTC"


def test_years_without_a_bar_are_left_out_of_the_axis_and_no_line_crosses_them() -> None:
    before, after = make_bars(400), make_bars(100, start="2030-01-01")
    bars = pd.concat([before, after])
    features = make_features(bars, ["rsi_14"])
    figure = feature_page(features, bars, make_origins(len(features)), title="demo")
    last, first = str(before.index[-1].date()), str(after.index[0].date())
    for axis, trace in ((figure.layout.xaxis2, figure.data[0]), (figure.layout.xaxis, figure.data[1])):
        assert [tuple(gap.bounds) for gap in axis.rangebreaks] == [(last, first)]
        assert list(axis.tickvals) == [str(before.index[0].date()), first]
        place = list(trace.x).index(last)
        assert (trace.y[place + 1], trace.x[place + 2]) == (None, first)
    assert [(shape.xref, shape.x0) for shape in figure.layout.shapes if shape.name == "gap"] == [
        ("x", last),
        ("x2", last),
    ]
    angles = {note.text: note.textangle for note in figure.layout.annotations}
    assert (angles["train"], angles["val_select"]) == (0, -90)
    assert not make_page()[0].layout.xaxis.rangebreaks


def test_a_table_without_a_close_shows_its_last_column_and_makes_no_logarithm_of_it() -> None:
    table = pd.DataFrame({"load": 1.0, "oil": [-1.0, 2.0, 3.0] * 50}, index=make_bars(150).index)
    figure = feature_page(table, table, make_origins(150), title="demo")
    assert figure.data[0].name == "oil"
    assert figure.layout.yaxis2.type == "linear"
    assert [button.label.split(" (")[0] for button in buttons(figure)] == ["column · load", "column · oil"]


def test_a_long_title_is_broken_into_lines_that_a_telephone_can_show() -> None:
    bars = make_bars(100)
    title = "High reaches +1 %, S&P 500 index of package arch (source sp500), daily"
    features = make_features(bars, ["rsi_14"])
    figure = feature_page(features, bars, make_origins(60, context_length=5), title=title)
    lines = figure.layout.title.text.split("<br>")
    assert " ".join(lines) == title
    assert max(map(len, lines)) <= 46
    assert figure.layout.margin.t > 19 * len(lines)


@pytest.fixture(scope="module")
def report() -> pd.DataFrame:
    features = make_features(make_bars(1000), ["close", "rsi_14", "atr_14"])
    features["close"] += np.linspace(0, 5, len(features))
    features["rsi_14"] = np.arange(len(features)) % 10
    return drift_report(features, make_origins(len(features)))


def test_the_drift_lines_stand_at_the_limits_and_are_written_above(report: pd.DataFrame) -> None:
    figure = drift_figure(report)
    assert [shape.x0 for shape in figure.layout.shapes] == [0.1, 0.25]
    written = {note.text: note.x for note in figure.layout.annotations}
    assert written == pytest.approx({"0.1": np.log10(0.1), "0.25": np.log10(0.25)})


def test_every_feature_and_split_is_a_dot_at_its_stability_index(report: pd.DataFrame) -> None:
    figure = drift_figure(report)
    drawn = {
        (feature, trace.name): (x, told)
        for trace in figure.data
        if trace.mode == "markers"
        for x, feature, told in zip(trace.x, trace.y, trace.customdata, strict=True)
    }
    assert len(drawn) == len(report) == 9
    for row in report.itertuples():
        x, told = drawn[row.feature, row.split]
        assert x == max(row.psi, 0.01)
        assert told == [row.psi, row.ks, row.drift]


def test_the_most_drifted_feature_is_on_top_and_no_dot_lies_outside(report: pd.DataFrame) -> None:
    figure = drift_figure(report)
    worst = report.groupby("feature")["psi"].max()
    assert figure.layout.yaxis.categoryarray[-1] == worst.idxmax() == "close"
    low, high = figure.layout.xaxis.range
    drawn = [x for trace in figure.data for x in trace.x if x is not None]
    assert low < np.log10(min(drawn))
    assert np.log10(max(drawn)) < high
    assert min(drawn) == 0.01
    assert "bdata" not in json.dumps(plain_figure(figure), allow_nan=False)
