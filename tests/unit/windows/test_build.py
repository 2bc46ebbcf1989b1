"""Windows: labels from raw prices, moments from training rows, and a gate on the count of positives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import Fault, FinscaleError
from finscale.features.compute import compute_features
from finscale.windows.build import build_windows, few_positives
from finscale.windows.data import WindowData
from finscale.windows.experiment import QUANTILE_LEVELS, ExperimentConfig, SplitConfig, WalkForward

Make = Callable[..., ExperimentConfig]


def windows_of(
    features: pd.DataFrame, bars: pd.DataFrame, experiment: ExperimentConfig, horizon: int = 1
) -> WindowData:
    return build_windows(features, bars, experiment=experiment, horizon=horizon, data_hash="abc")[0]


def independent_rates(bars: pd.DataFrame, n_dropped: int, horizon: int) -> dict[str, float]:
    """Touch rate of +1 % by split, by slices of the raw prices alone."""
    close, high = bars["close"].to_numpy()[n_dropped:], bars["high"].to_numpy()[n_dropped:]
    n = len(close)
    label = [max(high[t + 1 : t + 1 + horizon]) >= close[t] * 1.01 for t in range(n - horizon)]
    first_val, first_test = round(0.7 * n), round(0.85 * n)
    return {"train": np.mean(label[59 : first_val - horizon]), "test": np.mean(label[first_test:])}


@pytest.mark.parametrize("horizon", [1, 5])
def test_base_rates_of_the_bundled_index(
    sp500: pd.DataFrame, a25: pd.DataFrame, experiment: Make, horizon: int
) -> None:
    windows = windows_of(a25, sp500, experiment("threshold_1pct"), horizon)
    rates = independent_rates(sp500, 199, horizon)
    assert windows.base_rate == pytest.approx(rates["train"], abs=1e-9)
    assert windows.targets_at("test").mean() == pytest.approx(rates["test"], abs=1e-6)
    if horizon == 1:
        assert windows.base_rate == pytest.approx(0.2456, abs=5e-5)
        assert rates["test"] == pytest.approx(0.1215, abs=5e-5)


@pytest.mark.parametrize(
    ("horizon", "touch", "train", "test"),
    [(1, "high", 24.9, 13.0), (5, "close", 34.0, None), (5, "high", 61.0, None)],
)
def test_published_base_rates_on_origins_from_row_60(
    sp500: pd.DataFrame,
    stationary25: pd.DataFrame,
    experiment: Make,
    horizon: int,
    touch: str,
    train: float,
    test: float | None,
) -> None:
    """The specification's facts of the bundled index; percentages."""
    features = stationary25.loc[sp500.index[60] :]
    windows = windows_of(
        features, sp500, experiment("threshold_1pct", touch=touch, context_length=1), horizon
    )
    assert 100 * windows.base_rate == pytest.approx(train, abs=0.1 if horizon == 1 else 0.5)
    if test is not None:
        assert 100 * windows.targets_at("test").mean() == pytest.approx(test, abs=0.1)


@pytest.mark.parametrize(
    ("horizon", "touch", "train", "test"),
    [
        (1, "high", 854 / 3427, 98 / 746),
        (5, "close", 1169 / 3423, 205 / 742),
        (5, "high", 2086 / 3423, 341 / 742),
    ],
)
def test_base_rates_of_stationary25(
    sp500: pd.DataFrame,
    stationary25: pd.DataFrame,
    experiment: Make,
    horizon: int,
    touch: str,
    train: float,
    test: float,
) -> None:
    """With the set's own warm-up of 49 bars and whole contexts."""
    windows = windows_of(stationary25, sp500, experiment("threshold_1pct", touch=touch), horizon)
    assert (windows.base_rate, windows.targets_at("test").mean()) == pytest.approx((train, test))


def test_base_rates_without_warm_up(sp500: pd.DataFrame, experiment: Make) -> None:
    prices = sp500[["open", "high", "low", "close"]]
    windows = windows_of(prices, sp500, experiment("threshold_1pct"))
    rates = independent_rates(sp500, 0, 1)
    assert windows.base_rate == pytest.approx(rates["train"], abs=1e-9)
    assert windows.base_rate == pytest.approx(0.2504, abs=5e-5)
    assert windows.targets_at("test").mean() == pytest.approx(0.1313, abs=5e-5)


def test_labels_do_not_depend_on_features_or_their_scale(
    sp500: pd.DataFrame, a25: pd.DataFrame, experiment: Make
) -> None:
    plain = windows_of(a25, sp500, experiment("threshold_1pct"))
    scaled = windows_of(a25 * 7 - 3, sp500, experiment("threshold_1pct"))
    np.testing.assert_array_equal(plain.targets, scaled.targets)
    np.testing.assert_allclose(plain.values, scaled.values, atol=1e-5)


def test_dates_belong_to_rows_and_labels(sp500: pd.DataFrame, a25: pd.DataFrame, experiment: Make) -> None:
    windows = windows_of(a25, sp500, experiment("direction"), 3)
    for t in (0, 100, 4000):
        day = sp500.index.get_loc(pd.Timestamp(windows.dates[t]))
        assert windows.targets[t] == float(sp500["close"].iloc[day + 3] > sp500["close"].iloc[day])
        restored = windows.values[t].astype(float) * windows.standardizer.std + windows.standardizer.mean
        np.testing.assert_allclose(restored, a25.loc[sp500.index[day]], rtol=1e-4, atol=1e-2)


def test_moments_see_no_row_after_the_last_training_origin(
    sp500: pd.DataFrame, a25: pd.DataFrame, experiment: Make
) -> None:
    plain = windows_of(a25, sp500, experiment("threshold_1pct"), 5)
    last = plain.origins["train"][-1]
    later, inside = a25.copy(), a25.copy()
    later.iloc[last + 1 :] *= 100
    inside.iloc[last] += 1e6
    after = windows_of(later, sp500, experiment("threshold_1pct"), 5)
    np.testing.assert_array_equal(after.standardizer.mean, plain.standardizer.mean)
    np.testing.assert_array_equal(after.values[: last + 1], plain.values[: last + 1])
    touched = windows_of(inside, sp500, experiment("threshold_1pct"), 5)
    assert (touched.standardizer.mean != plain.standardizer.mean).all()


def test_windows_name_what_they_were_built_from(small_windows: WindowData) -> None:
    spec = small_windows.spec
    assert (spec.experiment, spec.task, spec.touch, spec.horizon) == ("small", "direction", "high", 3)
    assert (spec.context_length, spec.data_hash, spec.title) == (20, "abc", "Small windows")
    assert spec.features == ("close", "sma_12", "rsi_14")


def test_features_of_other_bars_are_refused(sp500: pd.DataFrame, a25: pd.DataFrame, experiment: Make) -> None:
    for features in (a25.iloc[:-1], a25.iloc[::2], a25.iloc[:0]):
        with pytest.raises(Fault, match="features must cover the last bars"):
            windows_of(features, sp500, experiment())


def test_the_gap_is_left_out_before_each_later_split(
    sp500: pd.DataFrame, a25: pd.DataFrame, experiment: Make
) -> None:
    origins = windows_of(a25, sp500, experiment(split=SplitConfig(gap=10)), 5).origins
    assert origins["train"][-1] + 5 + 10 + 1 == origins["val_select"][0]
    assert origins["val_score"][-1] + 5 + 10 + 1 == origins["test"][0]


def test_few_positives_stop_with_counts_and_remedies(
    sp500: pd.DataFrame, a25: pd.DataFrame, experiment: Make
) -> None:
    with pytest.raises(Fault) as found:
        windows_of(a25, sp500, experiment("threshold_3pct"))
    told = str(found.value)
    assert (
        "threshold_3pct at 1 bars must have at least 50 positives and negatives in train, validation" in told
    )
    assert "validation has 1 positives and 722 negatives; test has 1 positives and 723 negatives" in told
    for remedy in ("lower threshold", "longer horizon", "more data", "data.allow_few_positives=true"):
        assert remedy in told


def test_allowed_few_positives_are_a_warning_for_every_result(
    sp500: pd.DataFrame, a25: pd.DataFrame, experiment: Make
) -> None:
    config = experiment("threshold_3pct", allow_few_positives=True)
    windows, warnings = build_windows(a25, sp500, experiment=config, horizon=1, data_hash="abc")
    assert len(warnings) == 2
    assert "validation has 1 positives and 722 negatives (threshold_3pct at 1 bars)" in warnings[0]
    assert [fact in told for fact, told in zip(few_positives(windows), warnings, strict=True)] == [True, True]


def test_enough_positives_are_no_warning_even_where_few_are_allowed(
    sp500: pd.DataFrame, a25: pd.DataFrame, experiment: Make
) -> None:
    config = experiment("threshold_1pct", allow_few_positives=True)
    assert build_windows(a25, sp500, experiment=config, horizon=1, data_hash="abc")[1] == ()


def test_few_negatives_count_as_well(sp500: pd.DataFrame, a25: pd.DataFrame, experiment: Make) -> None:
    with pytest.raises(Fault, match=r"train has \d+ positives and \d\d negatives"):
        windows_of(a25, sp500, experiment("threshold_0.01pct"), 120)


def test_training_origins_of_one_class_are_refused_even_where_few_are_allowed(
    sp500: pd.DataFrame, a25: pd.DataFrame, experiment: Make
) -> None:
    with pytest.raises(Fault, match="must have both classes among the training origins"):
        windows_of(a25, sp500, experiment("threshold_50pct", allow_few_positives=True))


def test_labels_come_from_raw_prices_and_moments_from_training_rows_of_each_instrument(
    make_panel: Callable[..., pd.DataFrame], experiment: Make
) -> None:
    bars = make_panel({"B": (0, 700), "A": (150, 800), "C": (700, 250)}, gaps={"A": slice(200, 230)})
    windows = windows_of(bars, bars, experiment(context_length=10, allow_few_positives=True), 3)
    assert windows.spec.instruments == ("B", "A", "C")
    assert set(windows.instruments[windows.origins["train"]]) == {0, 1}
    close, names = bars["close"].to_numpy(), bars.index.get_level_values("instrument")
    for rows in windows.origins.values():
        np.testing.assert_array_equal(windows.targets[rows], close[rows + 3] > close[rows])
        assert (names[rows + 3] == names[rows]).all()
    last = {
        code: windows.origins["train"][windows.instruments[windows.origins["train"]] == code].max()
        for code in (0, 1)
    }
    fitted = np.concatenate([close[: last[0] + 1], close[700 : last[1] + 1]])
    assert windows.standardizer.mean[3] == pytest.approx(fitted.mean(), rel=1e-12)
    assert windows.standardizer.std[3] == pytest.approx(fitted.std(), rel=1e-12)


def test_the_instruments_of_a_panel_share_their_boundaries(
    make_panel: Callable[..., pd.DataFrame], experiment: Make
) -> None:
    bars = make_panel({"B": (0, 900), "A": (150, 800)})
    windows = windows_of(bars, bars, experiment(context_length=10), 1)
    for split in ("val_select", "val_score", "test"):
        rows = windows.origins[split]
        first = [windows.sessions[rows[windows.instruments[rows] == code]].min() for code in (0, 1)]
        assert first[0] == first[1]


def test_a_panel_of_one_instrument_is_that_instrument_alone(
    sp500: pd.DataFrame, stationary25: pd.DataFrame, experiment: Make
) -> None:
    def panel(table: pd.DataFrame) -> pd.DataFrame:
        return pd.concat({"SPX": table}, names=["instrument"])

    alone = windows_of(stationary25, sp500, experiment("regression"), 5)
    among = windows_of(panel(stationary25), panel(sp500), experiment("regression"), 5)
    assert (alone.spec.instruments, among.spec.instruments) == (("",), ("SPX",))
    for name in ("values", "targets", "dates", "sessions", "context_starts", "scale"):
        np.testing.assert_array_equal(getattr(among, name), getattr(alone, name))
    for split, rows in alone.origins.items():
        np.testing.assert_array_equal(among.origins[split], rows)


@pytest.mark.parametrize("scheme", ["expanding", "rolling"])
def test_every_fold_has_windows_and_moments_of_its_own(
    sp500: pd.DataFrame, stationary25: pd.DataFrame, experiment: Make, scheme: str
) -> None:
    split = SplitConfig(walk_forward=WalkForward(n_folds=4, scheme=scheme, embargo=5))
    config = experiment("threshold_1pct", split=split, allow_few_positives=True)
    folds = [
        build_windows(stationary25, sp500, experiment=config, horizon=1, data_hash="abc", fold=fold)[0]
        for fold in range(4)
    ]
    n, first = len(stationary25), round(len(stationary25) * 0.5)
    for k, windows in enumerate(folds):
        assert (windows.spec.fold, windows.spec.n_folds) == (k, 4)
        validation = first + round((n - first) * k / 5)
        begin = validation - first if scheme == "rolling" else 0
        fitted = stationary25.iloc[begin : windows.origins["train"][-1] + 1]
        np.testing.assert_allclose(windows.standardizer.mean, fitted.mean(), rtol=1e-9)
        assert windows.origins["train"][0] == max(begin, 59)
        assert windows.origins["train"][-1] + 1 + 1 == validation == windows.origins["val_select"][0]
    tests = np.concatenate([windows.origins["test"] for windows in folds])
    assert len(np.unique(tests)) == len(tests)
    ends = [first + round((n - first) * j / 5) for j in (2, 3)]
    barred = np.arange(ends[0], ends[0] + 5)
    assert not np.isin(barred, folds[3].origins["train"]).any()
    assert np.isin([barred[0] - 2, barred[-1] + 1], folds[3].origins["train"]).all()


def test_the_gate_names_the_fold(sp500: pd.DataFrame, stationary25: pd.DataFrame, experiment: Make) -> None:
    config = experiment("threshold_3pct", split=SplitConfig(walk_forward=WalkForward(n_folds=3)))
    with pytest.raises(Fault, match="threshold_3pct at 1 bars, fold 1 of 3 must have at least 50"):
        build_windows(stationary25, sp500, experiment=config, horizon=1, data_hash="abc", fold=1)


@pytest.mark.parametrize("task", ["regression", "quantile", "forecast"])
def test_the_gate_counts_no_positives_where_there_are_no_classes(
    small_bars: pd.DataFrame, experiment: Make, task: str
) -> None:
    config = experiment(task, context_length=5)
    assert (
        build_windows(small_bars[:60], small_bars[:60], experiment=config, horizon=1, data_hash="a")[1] == ()
    )


def test_the_longest_trained_horizon_is_purged(small_bars: pd.DataFrame, experiment: Make) -> None:
    config = experiment("quantile", horizons=(1, 5, 20), context_length=10)
    windows = windows_of(small_bars, small_bars, config, 5)
    assert (windows.spec.horizon, windows.spec.horizons) == (5, (1, 5, 20))
    assert windows.spec.quantile_levels == QUANTILE_LEVELS
    assert windows.origins["train"][-1] + 20 + 1 == windows.origins["val_select"][0]
    assert windows.origins["test"][-1] == len(small_bars) - 21
    alone = windows_of(small_bars, small_bars, experiment("quantile", context_length=10), 5)
    assert alone.spec.horizons == (5,)
    np.testing.assert_array_equal(alone.targets[:, 0], windows.targets[:, 1])


def test_intraday_contexts_may_stay_in_their_session(intraday_bars: pd.DataFrame, experiment: Make) -> None:
    settings = {"timescale": "intraday", "context_length": 6}
    whole = windows_of(intraday_bars, intraday_bars, experiment(context_reach="session", **settings))
    part = windows_of(
        intraday_bars,
        intraday_bars,
        experiment(context_reach="session", min_context_length=3, **settings),
    )
    for windows, first in ((whole, 5), (part, 2)):
        for split, rows in windows.origins.items():
            assert windows.slots[rows].min() == first, split
            assert (windows.sessions[windows.context_starts[rows]] == windows.sessions[rows]).all()
    assert part.spec.min_context_length == 3
    across = windows_of(intraday_bars, intraday_bars, experiment(**settings))
    assert across.slots[across.origins["train"]].min() == 0


def test_a_session_is_never_cut(intraday_bars: pd.DataFrame, experiment: Make) -> None:
    config = experiment(
        timescale="intraday", context_length=3, split=SplitConfig(fractions=(0.61, 0.2, 0.19))
    )
    windows = windows_of(intraday_bars, intraday_bars, config)
    days = [set(windows.sessions[rows].tolist()) for rows in windows.origins.values()]
    assert sum(map(len, days)) == len(set.union(*days))


def test_windows_of_the_published_forecasting_benchmark(test_data: Path, experiment: Make) -> None:
    """ETTh1 with 8640/2880/2880 rows, context 336 and horizon 96: 8,209 / 2,785 / 2,785 windows."""
    table = pd.read_csv(test_data / "ETTh1.csv", index_col="date", parse_dates=["date"]).astype(float)
    table.index = table.index.tz_localize("UTC").as_unit("ns")
    table.attrs["kind"] = "series"
    split = SplitConfig(dates=("2017-06-26", "2017-10-24", "2018-02-21"), val_select_fraction=1.0)
    config = experiment("forecast", timescale="intraday", context_length=336, split=split)
    windows = windows_of(table, table, config, 96)
    counts = {name: len(rows) for name, rows in windows.origins.items()}
    assert counts == {"train": 8209, "val_select": 2785, "val_score": 0, "test": 2785}
    assert windows.origins["test"][0] == 8640 + 2880 - 1
    assert windows.spec.target_columns == tuple(table.columns)
    np.testing.assert_allclose(windows.standardizer.mean, table.iloc[:8640].mean(), rtol=1e-12)
    assert windows.index.equals(table.index)


def test_everything_a_table_cannot_give_is_told_at_once(small_bars: pd.DataFrame, experiment: Make) -> None:
    series = small_bars[["volume"]].rename(columns={"volume": "load"}).astype(float)
    settings = {"timescale": "intraday", "context_reach": "session", "horizons": (1, 5)}
    with pytest.raises(FinscaleError) as found:
        windows_of(series, series, experiment("quantile", **settings), 3)
    for told in (
        "horizon must be among data.horizons (1, 5), got 3; score one of them, or add it to data.horizons",
        "data.task must be forecast or classes where the table has no column close, got 'quantile'; choose",
        "data.context_reach must be series where the table has no sessions, got 'session'",
    ):
        assert told in str(found.value)
    config = experiment("forecast", target_columns=("lod",), context_length=5)
    with pytest.raises(Fault, match=r"data\.target_columns must be features, got 'lod'; did you mean 'load'"):
        windows_of(series, series, config)
    with pytest.raises(
        Fault, match="forecast or classes where the table has no column high, got 'threshold_1pct'"
    ):
        windows_of(series, small_bars.drop(columns="high"), experiment("threshold_1pct"))


@pytest.mark.parametrize("fold", [-1, 1])
def test_a_fold_that_does_not_exist_is_refused(small_bars: pd.DataFrame, experiment: Make, fold: int) -> None:
    with pytest.raises(Fault, match="fold must be from 0 to 0"):
        build_windows(small_bars, small_bars, experiment=experiment(), horizon=1, data_hash="abc", fold=fold)


def test_the_rows_of_a_forecast_stay_in_their_instrument_and_stretch(
    make_panel: Callable[..., pd.DataFrame], experiment: Make
) -> None:
    bars = make_panel({"B": (0, 300), "A": (50, 330)}, gaps={"A": slice(100, 130), "B": slice(270, 290)})
    windows = windows_of(bars, bars, experiment("forecast", context_length=10), 4)
    times = bars.index.get_level_values("session").to_numpy()
    for rows in windows.origins.values():
        np.testing.assert_array_equal(times[rows + 4] - times[rows - 9], np.timedelta64(13, "D"))
        np.testing.assert_array_equal(windows.instruments[rows + 4], windows.instruments[rows - 9])


def test_bounded_features_are_left_alone_where_the_experiment_says_so(
    sp500: pd.DataFrame, experiment: Callable[..., ExperimentConfig]
) -> None:
    features = compute_features(sp500, ["return_1", "rsi_14", "close_location"]).frame
    windows, _ = build_windows(
        features, sp500, experiment=experiment(leave_bounded=True), horizon=1, data_hash="x"
    )
    np.testing.assert_allclose(windows.values[:, 1], features["rsi_14"] / 50 - 1, atol=1e-6)
    np.testing.assert_allclose(windows.values[:, 2], 2 * features["close_location"] - 1, atol=1e-6)
    assert abs(windows.values[: windows.origins["train"][-1] + 1, 0].std() - 1) < 1e-3
