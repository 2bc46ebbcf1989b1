import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from finscale.core.errors import Fault
from finscale.scalinglaws.cells import Note
from finscale.scalinglaws.sentences import headline, sentences
from finscale.scalinglaws.trend import slope_test
from finscale.scalinglaws.verdict import Status, Verdict, scaling_verdict

BUDGETS = (20_000, 60_000, 200_000, 600_000)


def table(
    excess: Callable[[float, int], float],
    *,
    budgets: tuple[int, ...] = BUDGETS,
    horizons: tuple[int, ...] = (1, 5),
    n_seeds: int = 3,
    seed_sd: float = 1e-4,
    rng_seed: int = 0,
) -> pd.DataFrame:
    """Cells whose excess loss is ``excess(n_params, horizon)`` plus seed noise."""
    rng = np.random.default_rng(rng_seed)
    rows = [
        {
            "n_budget": budget,
            "horizon": horizon,
            "n_params": round(budget * 1.07),
            "seed": seed,
            "split": "val_score",
            "excess_loss": excess(budget, horizon) + rng.normal(0, seed_sd),
        }
        for budget in budgets
        for horizon in horizons
        for seed in range(n_seeds)
    ]
    return pd.DataFrame(rows)


def rising(n: float, horizon: int) -> float:
    return 0.002 * np.log10(n) + 0.001 * horizon


def test_a_loss_that_falls_with_size_is_scaling() -> None:
    verdict = scaling_verdict(table(rising))
    assert verdict.overall.verdict is Verdict.SCALING
    assert verdict.overall.drop == pytest.approx(0.002 * np.log10(30), rel=0.05)
    assert [trend.verdict for trend in verdict.by_horizon] == [Verdict.SCALING] * 2


def test_a_loss_that_rises_with_size_is_inverse_scaling() -> None:
    verdict = scaling_verdict(table(lambda n, h: -rising(n, h)))
    assert verdict.overall.verdict is Verdict.INVERSE_SCALING
    assert verdict.overall.drop < 0
    assert verdict.n_cells_above_base_rate == verdict.n_cells == 8
    assert Note.LOSS_ABOVE_BASE_RATE in verdict.notes


def test_no_detectable_scaling_bounds_the_drop() -> None:
    verdict = scaling_verdict(table(lambda n, h: 0.004, seed_sd=1e-3)).overall
    assert verdict.verdict is Verdict.NO_DETECTABLE_SCALING
    assert verdict.drop_lower < 0 < verdict.drop_upper
    assert verdict.drop_lower < verdict.drop < verdict.drop_upper
    assert verdict.detectable_drop > 0


def test_the_bounds_on_the_drop_are_the_one_sided_t_bounds_of_the_slope() -> None:
    found = scaling_verdict(table(rising, seed_sd=2e-3, n_seeds=1)).overall
    line = stats.linregress(np.log10(found.n_params), found.excess_loss)
    reach, span = stats.t.ppf(0.95, 2) * line.stderr, np.log10(30)
    assert found.drop == pytest.approx(line.slope * span, rel=1e-3)
    assert found.drop_upper == pytest.approx((line.slope + reach) * span, rel=1e-3)
    assert found.drop_lower == pytest.approx((line.slope - reach) * span, rel=1e-3)
    both = stats.t.ppf(0.975, 2) * line.stderr
    assert (found.slope_low, found.slope_high) == pytest.approx(
        (line.slope - both, line.slope + both), rel=1e-3
    )


def test_the_overall_verdict_is_the_slope_of_the_horizon_averages() -> None:
    cells = table(lambda n, h: 0.0, seed_sd=1.0, rng_seed=4)
    means = cells.groupby("n_budget")["excess_loss"].mean().to_numpy()
    expected = slope_test(np.log10(np.array(BUDGETS) * 1.07), means)
    found = scaling_verdict(cells).overall
    assert found.p_scaling == pytest.approx(float(expected.p_rise), rel=1e-4)
    assert found.df == 2
    assert found.noise_sd == pytest.approx(float(expected.sigma), rel=1e-4)


def test_more_seeds_with_the_same_means_prove_nothing_more() -> None:
    cells = table(rising, seed_sd=1e-3)
    copies = [cells.assign(seed=cells["seed"] + 100 * k) for k in range(5)]
    once, five = scaling_verdict(cells), scaling_verdict(pd.concat(copies))
    assert five.overall.p_scaling == pytest.approx(once.overall.p_scaling)
    assert five.n_seeds == (15, 15)


def test_a_repeated_row_of_a_seed_counts_once() -> None:
    cells = table(rising, seed_sd=1e-3)
    again = pd.concat([cells, cells[cells["seed"] == 0]])
    assert scaling_verdict(again).overall.excess_loss == pytest.approx(
        scaling_verdict(cells).overall.excess_loss
    )


def test_the_seeds_spread_is_pooled_within_cells() -> None:
    verdict = scaling_verdict(table(rising, seed_sd=1e-3, n_seeds=200))
    assert verdict.seed_sd == pytest.approx(1e-3, rel=0.1)


def test_only_horizons_present_in_every_budget_are_averaged() -> None:
    cells = table(rising)
    gap = cells[~((cells["horizon"] == 5) & (cells["n_budget"] == 60_000))]
    verdict = scaling_verdict(gap)
    assert verdict.overall.horizons == (1,)
    assert verdict.missing == ("60K_h5",)
    assert Note.MISSING_CELLS in verdict.notes
    assert [len(trend.budgets) for trend in verdict.by_horizon] == [4, 3]


def test_without_a_shared_horizon_budgets_cannot_be_compared() -> None:
    cells = table(rising)
    split = cells[(cells["horizon"] == 1) == (cells["n_budget"] < 100_000)]
    overall = scaling_verdict(split).overall
    assert (overall.verdict, overall.status) == (Verdict.NOT_ENOUGH_DATA, Status.NO_COMMON_HORIZON)


@pytest.mark.parametrize("n_budgets", [0, 1, 2])
def test_fewer_than_three_budgets_are_not_enough(n_budgets: int) -> None:
    cells = table(rising)
    overall = scaling_verdict(cells[cells["n_budget"].isin(BUDGETS[:n_budgets])]).overall
    assert (overall.verdict, overall.status) == (Verdict.NOT_ENOUGH_DATA, Status.TOO_FEW_BUDGETS)
    assert len(overall.budgets) == n_budgets
    assert overall.p_scaling is None


def test_three_budgets_give_a_verdict_and_no_exponent() -> None:
    verdict = scaling_verdict(table(rising, budgets=BUDGETS[:3], seed_sd=1e-6))
    assert verdict.overall.verdict is Verdict.SCALING
    assert verdict.exponent.status == "too_few_budgets"


def test_one_size_under_every_budget_is_not_enough() -> None:
    overall = scaling_verdict(table(rising).assign(n_params=9999)).overall
    assert (overall.verdict, overall.status) == (Verdict.NOT_ENOUGH_DATA, Status.CONSTANT_N)


def test_ties_are_a_status_without_a_bound() -> None:
    overall = scaling_verdict(table(rising).assign(excess_loss=0.1)).overall
    assert (overall.verdict, overall.status) == (Verdict.NO_DETECTABLE_SCALING, Status.TIES)
    assert overall.drop_upper is None


def test_a_line_without_noise_is_a_status() -> None:
    cells = table(lambda n, h: 0.0)
    overall = scaling_verdict(cells.assign(excess_loss=np.log10(cells["n_params"]))).overall
    assert (overall.verdict, overall.status) == (Verdict.SCALING, Status.NO_NOISE)


def test_failed_and_non_finite_runs_are_left_out_and_noted() -> None:
    cells = table(rising).assign(outcome="complete")
    cells.loc[0, "outcome"] = "diverged"
    cells.loc[1, "excess_loss"] = np.nan
    verdict = scaling_verdict(cells)
    assert verdict.n_dropped == 2
    assert {Note.NOT_COMPLETE_DROPPED, Note.NOT_FINITE_DROPPED, Note.ONE_SEED} <= set(verdict.notes)
    assert verdict.overall.verdict is Verdict.SCALING


def test_a_diverged_runs_loss_never_enters() -> None:
    cells = table(rising).assign(outcome="complete")
    spoiled = pd.concat([cells, cells.iloc[[0]].assign(seed=9, excess_loss=-50.0, outcome="diverged")])
    assert scaling_verdict(spoiled).overall == scaling_verdict(cells).overall


def test_one_seed_is_noted_and_has_no_spread() -> None:
    verdict = scaling_verdict(table(rising, n_seeds=1))
    assert verdict.seed_sd is None
    assert Note.ONE_SEED in verdict.notes


def test_splits_are_judged_apart() -> None:
    cells = table(rising)
    both = pd.concat([cells, cells.assign(split="test", excess_loss=-cells["excess_loss"])])
    assert scaling_verdict(both).overall == scaling_verdict(cells).overall
    assert scaling_verdict(both, split="test").overall.verdict is Verdict.INVERSE_SCALING


def test_horizon_verdicts_are_holm_adjusted() -> None:
    cells = table(rising, seed_sd=2e-3, rng_seed=3, horizons=(1, 3, 5))
    alone = [scaling_verdict(cells[cells["horizon"] == h]).overall.p_scaling for h in (1, 3, 5)]
    together = [trend.p_scaling for trend in scaling_verdict(cells).by_horizon]
    order = np.argsort(alone)
    expected = np.minimum(np.maximum.accumulate(np.array(alone)[order] * [3, 2, 1]), 1)
    assert np.array(together)[order] == pytest.approx(expected)
    assert scaling_verdict(cells).by_horizon[0].bound_level == pytest.approx(0.05 / 3)


def test_an_exponent_is_given_only_with_scaling() -> None:
    steep = table(lambda n, h: -0.5 * (n / 2e4) ** -0.5, seed_sd=1e-5)
    verdict = scaling_verdict(steep)
    assert verdict.fit.exponent.status == "identified"
    assert verdict.overall.verdict is Verdict.SCALING
    assert verdict.exponent.estimate == pytest.approx(0.5, abs=0.01)
    very_steep = scaling_verdict(table(lambda n, h: -0.5 * (n / 2e4) ** -1.3, seed_sd=1e-6))
    assert very_steep.fit.exponent.status == "identified"
    assert very_steep.overall.verdict is Verdict.NO_DETECTABLE_SCALING
    assert very_steep.exponent.estimate is None


def test_row_order_does_not_matter() -> None:
    cells = table(rising, seed_sd=1e-3)
    assert scaling_verdict(cells.sample(frac=1, random_state=1)).overall.p_scaling == pytest.approx(
        scaling_verdict(cells).overall.p_scaling
    )


def test_a_missing_column_is_named() -> None:
    with pytest.raises(Fault, match="n_params"):
        scaling_verdict(table(rising).drop(columns="n_params"))


ODD = st.sampled_from([0.0, 0.001, -0.002, 0.1, np.nan, np.inf, None])
ROW = st.fixed_dictionaries(
    {
        "n_budget": st.sampled_from(BUDGETS),
        "horizon": st.sampled_from([1, 3, 5]),
        "n_params": st.sampled_from([19_000, 64_000, 205_000, 0, -3, np.nan]),
        "seed": st.integers(0, 2),
        "split": st.sampled_from(["val_score", "val_score", "test"]),
        "excess_loss": ODD,
        "outcome": st.sampled_from(["complete", "complete", "diverged"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=25))
def test_no_table_however_odd_raises(rows: list[dict]) -> None:
    columns = ["n_budget", "horizon", "n_params", "seed", "split", "excess_loss", "outcome"]
    verdict = scaling_verdict(pd.DataFrame(rows, columns=columns))
    spoken = " ".join([headline(verdict), *sentences(verdict)])
    assert "nan" not in spoken
    assert "None" not in spoken
    json.dumps(verdict.model_dump(mode="json"), allow_nan=False)


def test_the_error_of_the_extrapolation_is_given_in_seed_sd() -> None:
    verdict = scaling_verdict(table(rising, seed_sd=1e-3))
    assert verdict.extrapolation_error_sd == pytest.approx(verdict.fit.extrapolation.error / verdict.seed_sd)
    assert scaling_verdict(table(rising, n_seeds=1)).extrapolation_error_sd is None
    assert scaling_verdict(table(rising, budgets=BUDGETS[:2])).extrapolation_error_sd is None
