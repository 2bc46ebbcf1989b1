import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finscale.core.budgets import parse_budget
from finscale.core.errors import Fault
from finscale.scalinglaws.selection import (
    best_of_m_table,
    expected_at_best_of_m,
    expected_min_of_m,
    selection_trend,
    tuning_curve,
)
from finscale.scalinglaws.trend import slope_test

LOSSES = st.lists(st.floats(0, 10), min_size=1, max_size=7)


@given(losses=LOSSES, data=st.data())
def test_the_estimator_is_the_mean_over_every_subset(losses: list[float], data: st.DataObject) -> None:
    m = data.draw(st.integers(1, len(losses)))
    exact = np.mean([min(subset) for subset in itertools.combinations(losses, m)])
    assert expected_min_of_m(losses, m) == pytest.approx(exact, abs=1e-9)


@given(LOSSES)
def test_a_tuning_curve_falls_from_the_mean_to_the_minimum(losses: list[float]) -> None:
    curve = tuning_curve(losses)
    assert curve[0] == pytest.approx(np.mean(losses), abs=1e-9)
    assert curve[-1] == pytest.approx(min(losses), abs=1e-9)
    assert np.all(np.diff(curve) <= 1e-9)


def test_large_searches_do_not_overflow() -> None:
    losses = np.arange(5000.0)
    assert expected_min_of_m(losses, 2500) == pytest.approx(2 * 5001 / 2501 / 2 - 1)


def test_a_diverged_trial_counts_as_the_worst() -> None:
    assert expected_min_of_m([1.0, np.nan, 3.0], 1) == pytest.approx((1 + 3 + 3) / 3)
    assert expected_min_of_m([1.0, np.inf, 3.0], 3) == 1.0


def test_what_cannot_be_estimated_is_none() -> None:
    assert expected_min_of_m([1.0, 2.0], 3) is None
    assert expected_min_of_m([np.nan, np.nan], 1) is None
    assert tuning_curve([]).tolist() == []
    with pytest.raises(Fault, match="m must be at least 1"):
        expected_min_of_m([1.0], 0)


def trials(sizes: dict[str, int]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame({"budget": budget, "horizon": 1, "kind": "random", "value": rng.exponential(size=n)})
        for budget, n in sizes.items()
    ]
    table = pd.concat(frames, ignore_index=True).assign(base_rate_loss=2.0)
    table["n_params"] = table["budget"].map(parse_budget)
    tuned = pd.DataFrame(
        {"budget": ["2M"], "horizon": 1, "kind": "sampler", "value": -9.0, "base_rate_loss": 2.0}
    ).assign(n_params=2_000_000)
    return pd.concat([table, tuned], ignore_index=True)


def test_every_cell_is_compared_at_the_smallest_number_of_random_trials() -> None:
    table = best_of_m_table(trials({"200K": 40, "2M": 12, "20M": 6}))
    assert table["budget"].tolist() == ["200K", "2M", "20M"]
    assert table["n_random"].tolist() == [40, 12, 6]
    assert table["m"].tolist() == [6, 6, 6]
    assert table["enough"].tolist() == [True, True, False]
    assert table["expected_excess_loss"].tolist() == pytest.approx((2.0 - table["expected_loss"]).tolist())


def test_equal_effort_removes_the_head_start_of_a_longer_search() -> None:
    long, short = trials({"20K": 4000, "2M": 4000}), trials({"20K": 4000})
    short = pd.concat([short, trials({"2M": 40})[lambda t: t["budget"] == "2M"]])
    raw = short[short["kind"] == "random"].groupby("budget")["value"].min()
    assert raw["2M"] > 4 * raw["20K"]
    equal = best_of_m_table(short).set_index("budget")["expected_loss"]
    assert equal["20K"] == pytest.approx(1 / 40, rel=0.1)
    assert len(best_of_m_table(long)) == 2


def test_only_random_trials_count() -> None:
    assert best_of_m_table(trials({"2M": 12}))["expected_loss"].iloc[0] > 0
    assert best_of_m_table(trials({"2M": 12})[lambda t: t["kind"] == "sampler"]).empty


def test_a_missing_column_is_named() -> None:
    with pytest.raises(Fault, match="base_rate_loss"):
        best_of_m_table(trials({"2M": 3}).drop(columns="base_rate_loss"))


COUNTS = {"20K": 100, "200K": 60, "2M": 30, "20M": 10}


def test_equal_effort_takes_the_slope_out_of_unequal_searches() -> None:
    rng, n_studies = np.random.default_rng(5), 2000
    cells = [rng.normal(size=(n_studies, n)) for n in COUNTS.values()]
    best = np.column_stack([cell.min(axis=1) for cell in cells])
    equal = np.column_stack([[expected_min_of_m(row, 10) for row in cell] for cell in cells])
    before, after = (slope_test(np.arange(4), losses).slope.mean() for losses in (best, equal))
    assert before >= 0.3
    assert abs(after) <= 0.02


@given(losses=LOSSES, data=st.data())
def test_what_comes_with_the_best_is_averaged_over_every_subset(
    losses: list[float], data: st.DataObject
) -> None:
    m = data.draw(st.integers(1, len(losses)))
    distinct = np.array(losses) + np.arange(len(losses)) * 1e-3 * np.pi
    sizes = np.arange(len(losses)) ** 2.0
    subsets = [list(subset) for subset in itertools.combinations(range(len(losses)), m)]
    exact = np.mean([sizes[subset][distinct[subset].argmin()] for subset in subsets])
    assert expected_at_best_of_m(distinct, sizes, m) == pytest.approx(exact, abs=1e-9)


def test_equal_losses_share_the_chance_of_being_the_best() -> None:
    assert expected_at_best_of_m([1.0, 1.0, 2.0], [0.0, 6.0, 99.0], 3) == pytest.approx(3.0)


def test_the_size_of_a_cell_is_that_of_its_likely_winner() -> None:
    rows = trials({"2M": 4})[:4].assign(value=[1.0, 2.0, 3.0, 4.0], n_params=[1e6, 2e6, 2e6, 2e6])
    small = rows.iloc[:1].assign(budget="20K", n_params=2e4)
    table = best_of_m_table(pd.concat([rows, small])).set_index("budget")
    assert table.loc["2M", "expected_log10_n"] == pytest.approx((6 + 3 * np.log10(2e6)) / 4)


def test_the_trend_of_searches_is_the_slope_of_their_table() -> None:
    rows = trials(COUNTS)
    found, table = selection_trend(rows), best_of_m_table(rows)
    line = slope_test(table["expected_log10_n"], table["expected_excess_loss"])
    assert found.slope_of_expected == pytest.approx(float(line.slope))
    assert (found.p_scaling, found.p_inverse) == (float(line.p_rise), float(line.p_fall))
    assert (found.m, found.budgets, found.n_trials) == (10, tuple(COUNTS), (100, 60, 31, 10))
    assert found.best_excess_loss[2] == 2.0 + 9.0
    assert found.best_excess_loss[0] == pytest.approx(2.0 - rows.loc[rows["budget"] == "20K", "value"].min())


def test_horizons_that_a_budget_lacks_do_not_enter_the_trend() -> None:
    rows = trials(COUNTS)
    elsewhere = rows[rows["budget"] != "20K"].assign(horizon=5, value=50.0)
    assert selection_trend(pd.concat([rows, elsewhere])) == selection_trend(rows)


def test_two_budgets_have_no_trend() -> None:
    assert selection_trend(trials({"20K": 12, "2M": 12})) is None
    failed = trials(COUNTS)
    failed.loc[failed["budget"].isin(["20K", "200K"]), "value"] = np.nan
    assert selection_trend(failed) is None
