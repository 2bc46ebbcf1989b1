"""Windows: labels from raw prices, moments from training rows, and a gate on the count of positives."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from finscale.core.errors import Fault
from finscale.windows.build import build_windows, few_positives
from finscale.windows.data import WindowData
from finscale.windows.experiment import ExperimentConfig, SplitConfig

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
