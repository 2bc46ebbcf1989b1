from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from finscale.reporting.power import half_decades, power_report, power_table
from finscale.reporting.study import ReportInput
from finscale.reporting.summary import compose, power_sentences
from finscale.scalinglaws.power import detectable_drop

Make = Callable[..., ReportInput]
PLANNED = tuple(f"{budget}_h{h}" for budget in ("20K", "60K", "200K", "600K", "6M") for h in (1, 5))


def test_ladders_step_by_half_decades_and_reach_the_largest_budget() -> None:
    assert half_decades(["200M", "2M"]) == ("2M", "6M", "20M", "60M", "200M")
    assert half_decades(["20K", "600K"]) == ("20K", "60K", "200K", "600K")
    assert half_decades(["2M", "20M"], further=2) == ("2M", "6M", "20M", "60M", "200M")


def test_a_plan_says_the_drop_that_the_noise_measured_so_far_lets_it_detect(make_study: Make) -> None:
    study = make_study(planned=PLANNED)
    report = power_report(study)
    assert (report.noise_from, report.noise_sd) == ("budgets", study.verdict.overall.noise_sd)
    for plan in report.plans:
        expected = detectable_drop(np.log10(plan.power.n_params), noise_sd=report.noise_sd or 0.0)
        assert plan.power.detectable_drop == pytest.approx(expected)


def test_more_searches_detect_less_and_cost_more(make_study: Make) -> None:
    plans = {plan.name: plan for plan in power_report(make_study()).plans}
    once, twice = plans["the cells that are there"], plans["the same, the 3 smallest searched twice"]
    assert twice.power.detectable_drop < once.power.detectable_drop
    assert twice.hours > once.hours
    assert once.hours_left == 0
    assert twice.hours_left == pytest.approx(2 * (1 + 3 + 10))


def test_hours_beyond_the_largest_finished_cell_grow_with_the_operations(make_study: Make) -> None:
    study = make_study(planned=PLANNED)
    plan = next(plan for plan in power_report(study).plans if plan.budgets[-1] == "6M")
    measured = study.costs.groupby("budget")["seconds"].sum() / 3600
    assert plan.hours_left == pytest.approx(10 * measured["600K"], rel=0.15)


def test_before_three_budgets_the_seeds_alone_give_a_lower_bound_and_it_is_said(make_study: Make) -> None:
    study = make_study(budgets=("20K", "200K"), planned=PLANNED)
    report = power_report(study)
    assert report.noise_from == "seeds"
    assert report.noise_sd == pytest.approx(study.verdict.seed_sd / 6**0.5)
    table = power_table(report)
    assert table is not None
    assert "lower bounds" in table.note


def test_without_any_noise_no_plan_is_made_and_that_is_said(make_study: Make) -> None:
    composed = compose(make_study(budgets=("20K", "200K"), n_seeds=1))
    assert composed.power.plans == ()
    assert composed.power_table is None
    assert power_sentences(composed)[0].startswith("No noise has been measured yet")


def test_a_study_without_costs_still_says_what_it_could_detect(make_study: Make) -> None:
    study = make_study()
    plans = power_report(replace(study, costs=study.costs.head(0))).plans
    assert plans
    assert all(plan.hours is None and plan.power.detectable_drop is not None for plan in plans)
