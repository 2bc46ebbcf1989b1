"""Drift is measured against training, on bins and ranks that training alone decides."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from finscale.core.errors import Fault
from finscale.features.drift import SHARE_FLOOR, drift_report, population_stability

ROWS = {"train": np.arange(600), "val_select": np.arange(600, 750), "test": np.arange(800, 1000)}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"still": rng.normal(size=1000), "moved": rng.normal(size=1000)})
    frame["regime"] = rng.choice([0.0, 1.0, 2.0], size=1000, p=[0.55, 0.4, 0.05])
    frame["constant"] = 3.0
    frame.loc[800:, "moved"] += 1.0
    return frame


def test_every_feature_is_compared_in_every_later_split(frame: pd.DataFrame) -> None:
    report = drift_report(frame, ROWS)
    assert list(report.columns) == ["feature", "split", "psi", "ks", "drift", "n"]
    expected = [(feature, split) for feature in frame.columns for split in ("val_select", "test")]
    assert list(zip(report["feature"], report["split"], strict=True)) == expected
    assert report["n"].tolist() == [150, 200] * 4


def test_only_what_moved_is_said_to_have_drifted(frame: pd.DataFrame) -> None:
    words = drift_report(frame, ROWS).set_index(["feature", "split"])["drift"]
    assert words["moved", "test"] == "large"
    assert words["moved", "val_select"] != "large"
    assert words["constant"].tolist() == ["stable", "stable"]


@pytest.mark.parametrize(("shift", "word"), [(0.0, "stable"), (0.4, "moderate"), (0.6, "large")])
def test_the_words_follow_the_thresholds(shift: float, word: str) -> None:
    x = np.random.default_rng(0).normal(size=40_000)
    frame = pd.DataFrame({"x": np.r_[x[:20_000], x[20_000:] + shift]})
    report = drift_report(frame, {"train": np.arange(20_000), "test": np.arange(20_000, 40_000)})
    assert report["drift"].tolist() == [word]
    assert (report["psi"][0] < 0.1) == (word == "stable")
    assert (report["psi"][0] >= 0.25) == (word == "large")


def test_the_statistic_of_kolmogorov_and_smirnov_is_scipys(frame: pd.DataFrame) -> None:
    for row in drift_report(frame, ROWS).itertuples():
        a, b = (frame[row.feature].to_numpy()[ROWS[split]] for split in ("train", row.split))
        grid = np.r_[a, b]
        by_hand = max(abs((a <= x).mean() - (b <= x).mean()) for x in grid)
        assert row.ks == pytest.approx(by_hand, abs=1e-12)
        assert row.ks == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)


def test_stability_of_a_known_shift_of_shares() -> None:
    """Half of the first training decile moved into the last: two terms, by hand."""
    train = np.arange(1000.0)
    other = np.where(train < 50, 999.0, train)
    expected = (0.05 - 0.1) * np.log(0.05 / 0.1) + (0.15 - 0.1) * np.log(0.15 / 0.1)
    assert population_stability(train, other) == pytest.approx(expected)
    assert population_stability(train, train) == 0


def test_an_empty_bin_counts_as_the_stated_floor() -> None:
    train = np.arange(1000.0)
    other = train[100:]
    shares = np.r_[SHARE_FLOOR, np.full(9, 1 / 9)]
    assert population_stability(train, other) == pytest.approx(((shares - 0.1) * np.log(shares / 0.1)).sum())


@pytest.mark.parametrize("to", [2.0, 4.0])
def test_a_constant_that_moves_has_drifted(to: float) -> None:
    train = np.full(100, 3.0)
    assert population_stability(train, np.full(50, to)) > 10
    assert population_stability(train, train[:50]) == 0


def test_the_values_of_a_discrete_feature_are_bins_of_their_own() -> None:
    train = np.repeat([0.0, 1.0, 2.0], [550, 400, 50])
    other = np.repeat([0.0, 1.0, 2.0], [300, 400, 300])
    a, b = np.array([0.55, 0.4, 0.05]), np.array([0.3, 0.4, 0.3])
    assert population_stability(train, other) == pytest.approx(((b - a) * np.log(b / a)).sum())


def test_bins_come_from_training_alone(frame: pd.DataFrame) -> None:
    changed = frame.copy()
    changed.loc[800:] *= -5
    was, now = drift_report(frame, ROWS), drift_report(changed, ROWS)
    untouched = was["split"] == "val_select"
    pd.testing.assert_frame_equal(was[untouched], now[untouched])


def test_units_do_not_matter(frame: pd.DataFrame) -> None:
    was, now = drift_report(frame, ROWS), drift_report(8 * frame - 4, ROWS)
    pd.testing.assert_frame_equal(was, now)


def test_training_is_needed_and_an_empty_split_is_left_out(frame: pd.DataFrame) -> None:
    none = np.array([], dtype=np.int64)
    for rows in ({"test": ROWS["test"]}, {**ROWS, "train": none}):
        with pytest.raises(Fault, match="drift must be measured against rows of the split train"):
            drift_report(frame, rows)
    assert drift_report(frame, {**ROWS, "val_score": none})["split"].unique().tolist() == [
        "val_select",
        "test",
    ]
