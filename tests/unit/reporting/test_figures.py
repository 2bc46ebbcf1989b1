from collections.abc import Callable
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from finscale.core.citation import plain
from finscale.reporting.chart import format_y_ticks
from finscale.reporting.comparisons import confidence_sets, dm_tests, standing
from finscale.reporting.figures import export_figures, main_figures, searched_cells
from finscale.reporting.intervals import (
    best_baseline,
    cell_intervals,
    horizon_intervals,
    overall_intervals,
)
from finscale.reporting.search_figures import grid_map, optimisation_history
from finscale.reporting.study import CellKey, ReportInput
from finscale.scalinglaws.selection import expected_min_of_m

Make = Callable[..., ReportInput]


def trace(figure: go.Figure, name: str) -> go.Scatter:
    return next(found for found in figure.data if found.name == name)


def test_there_is_a_figure_per_question_and_horizon(make_study: Make) -> None:
    assert list(main_figures(make_study(horizons=(1, 3)))) == [
        "excess_against_n",
        "horizon_excess_h1",
        "horizon_excess_h3",
        "loss_against_n_h1",
        "loss_against_n_h3",
        "residuals",
        "alpha_profile",
        "held_out",
        "excess_against_flops",
        "tuning_curves_h1",
        "tuning_curves_h3",
        "best_architectures_h1",
        "best_architectures_h3",
        "arch_grid",
    ]


def test_searches_are_ordered_by_size_not_by_letter(make_study: Make) -> None:
    cells = [key.id for key in searched_cells(make_study(horizons=(1,)))]
    assert cells == ["20K_h1", "60K_h1", "200K_h1", "600K_h1"]


def test_an_exported_figure_carries_commit_environment_and_data(make_study: Make) -> None:
    for figure in export_figures(make_study()).values():
        texts = [annotation.text for annotation in figure.layout.annotations]
        assert "commit 8426252 · environment demo · data 3f2a91c0d4e7" in texts
        assert figure.layout.meta["caption"]


def test_the_excess_figure_shows_the_numbers_of_the_verdict(make_study: Make) -> None:
    study = make_study()
    figure, trend = main_figures(study)["excess_against_n"], study.verdict.overall
    points = trace(figure, "val_score")
    assert list(points.y) == pytest.approx(trend.excess_loss)
    assert list(points.x) == pytest.approx(trend.n_params)
    line = next(found for found in figure.data if found.mode == "lines" and found.name is None)
    start = trend.intercept + trend.slope * (np.log10(trend.n_params[0]) - np.log10(trend.n_params).mean())
    assert (line.y[0], line.y[-1]) == pytest.approx((start, start + trend.drop))
    assert list(trace(figure, "test period").y) == pytest.approx(study.test_verdict.overall.excess_loss)
    assert len(trace(figure, "single seeds").y) == 12


def test_baselines_are_lines_at_their_mean_over_horizons(make_study: Make) -> None:
    study = make_study()
    rows = study.baselines[
        (study.baselines["split"] == "val_score") & (study.baselines["baseline"] == "garch")
    ]
    assert trace(main_figures(study)["excess_against_n"], "garch").y[0] == pytest.approx(
        rows["excess_loss"].mean()
    )


def test_bars_are_the_date_block_intervals_mirrored_for_a_loss(make_study: Make) -> None:
    study = make_study()
    found = cell_intervals(study, split="val_score")[CellKey("20K", 5)]
    bars = trace(main_figures(study)["loss_against_n_h5"], "val_score").error_y
    assert bars.arrayminus[0] == pytest.approx(found.high - found.mean)
    assert bars.array[0] == pytest.approx(found.mean - found.low)


def test_trials_keep_their_own_excess_when_placed_beside_the_cells(make_study: Make) -> None:
    study = make_study()
    base = study.cells.query("split == 'val_score' and horizon == 1")["base_rate_loss"].mean()
    rows = study.trials.query("horizon == 1")
    shown = trace(main_figures(study)["loss_against_n_h1"], "trials")
    expected = base - (rows["base_rate_loss"] - rows["value"])
    assert set(np.round(shown.y, 9)) <= set(np.round(expected, 9))
    assert len(shown.y) > len(rows) / 2


def test_trials_that_are_not_drawn_are_counted(make_study: Make) -> None:
    study = make_study()
    figure = main_figures(study)["loss_against_n_h1"]
    n_trials = (study.trials["horizon"] == 1).sum()
    n_hidden = n_trials - len(trace(figure, "trials").y)
    assert n_hidden >= 1
    assert figure.layout.meta["note"].startswith(f"{n_hidden} of {n_trials} trials")


def test_tuning_curves_are_the_exact_estimator_as_excess(make_study: Make) -> None:
    study = make_study()
    rows = study.trials.query("horizon == 5 and kind == 'random' and budget == '200K'")
    curve = trace(main_figures(study)["tuning_curves_h5"], "200K")
    expected = rows["base_rate_loss"].mean() - expected_min_of_m(rows["value"], 4)
    assert curve.y[3] == pytest.approx(expected)
    assert list(curve.x) == list(range(1, 13))


def test_a_history_shows_finite_trials_and_the_best_so_far(make_study: Make) -> None:
    rows = make_study().trials.query("budget == '20K' and horizon == 1")
    rows = rows.sample(frac=1, random_state=0)
    figure = optimisation_history(rows, title="20K_h1")
    ordered = rows.sort_values("number")["value"].dropna()
    assert list(trace(figure, "best so far").y) == pytest.approx(ordered.cummin().to_list())
    drawn = sum(len(found.y) for found in figure.data if found.name != "best so far")
    assert drawn == len(ordered)
    assert len(trace(figure, "extreme").y) == 4


def test_one_disaster_does_not_flatten_a_history(make_study: Make) -> None:
    rows = make_study().trials.query("budget == '20K' and horizon == 1").reset_index(drop=True)
    rows.loc[2, "value"] = 50.0
    assert optimisation_history(rows, title="").layout.yaxis.range[1] < 1.0


def test_a_history_of_nothing_is_an_empty_figure(make_study: Make) -> None:
    rows = make_study().trials.head(3).assign(value=np.nan)
    assert optimisation_history(rows, title="").layout.meta["note"] == "3 of 3 trials failed or run."


def test_the_grid_map_places_every_shape_and_rings_the_winners(make_study: Make) -> None:
    study = make_study()
    figure = grid_map(study.grid, study.cells)
    places = study.grid[["budget", "d_model", "n_layers"]].drop_duplicates()
    assert len(trace(figure, "admissible").x) == len(places)
    ringed = set(zip(trace(figure, "winners").x, trace(figure, "winners").y, strict=True))
    assert ringed == {(32, 2), (64, 2), (64, 4), (128, 4)}


def test_ticks_have_the_decimals_that_tell_them_apart() -> None:
    figure = format_y_ticks(go.Figure(go.Scatter(y=[0.690, 0.694])))
    assert figure.layout.yaxis.tickformat == ".4f"
    assert format_y_ticks(go.Figure(go.Scatter(y=[0.0, 100.0]))).layout.yaxis.tickformat == ".0f"


def test_the_best_baseline_is_not_the_base_rate(make_study: Make) -> None:
    study = make_study()
    assert best_baseline(study, horizon=1, split="test") == "garch"
    only = replace(study, baselines=study.baselines.query("baseline == 'base_rate'"))
    assert best_baseline(only, horizon=1, split="test") is None
    assert cell_intervals(only, split="test", against="best") == {}


def test_interval_means_are_the_cells_excess_losses(make_study: Make) -> None:
    study = make_study()
    for (budget, horizon), interval in cell_intervals(study, split="test").items():
        rows = study.cells.query(f"split == 'test' and budget == '{budget}' and horizon == {horizon}")
        assert interval.mean == pytest.approx(rows["excess_loss"].mean())


def test_intervals_against_the_best_baseline_are_shifted_by_its_excess(make_study: Make) -> None:
    study = make_study()
    base = horizon_intervals(study, horizon=1, split="test")["20K"].mean
    best = horizon_intervals(study, horizon=1, split="test", against="best")["20K"].mean
    garch = study.baselines.query("split == 'test' and horizon == 1 and baseline == 'garch'")[
        "excess_loss"
    ].iloc[0]
    assert base - best == pytest.approx(garch)


def test_the_standing_against_the_best_baseline_counts_the_intervals_on_each_side_of_zero(
    make_study: Make,
) -> None:
    study = make_study()
    intervals = cell_intervals(study, split="test", against="best").values()
    behind = sum(found.high < 0 for found in intervals)
    ahead = sum(found.low > 0 for found in intervals)
    found = standing(study)
    assert found is not None
    assert (found.worse, found.better, found.level) == (behind, ahead, 8 - behind - ahead)
    assert "garch at horizon 1" in plain(found.sentence("a.json#"))
    shifted = study.date_losses.assign(loss=study.date_losses["loss"] + 1.0)
    worst = standing(replace(study, date_losses=shifted))
    assert worst is not None
    assert (worst.worse, worst.better) == (8, 0)
    assert standing(replace(study, date_losses=study.date_losses.head(0))) is None


def test_overall_intervals_average_the_horizons(make_study: Make) -> None:
    study = make_study()
    means = [interval.mean for interval in overall_intervals(study, split="val_score").values()]
    assert means == pytest.approx(study.verdict.overall.excess_loss)


def test_runs_that_did_not_finish_have_no_part_in_the_intervals(make_study: Make) -> None:
    study = make_study()
    worse = study.date_losses.query("seed == 0").assign(seed=9, loss=99.0)
    losses = study.date_losses
    with_failed = replace(
        study,
        date_losses=type(losses)(np.vstack([losses, worse]), columns=losses.columns).astype(
            losses.dtypes.to_dict()
        ),
    )
    assert cell_intervals(with_failed, split="test") == cell_intervals(study, split="test")


def test_a_horizons_panel_shows_its_own_holm_adjusted_verdict(make_study: Make) -> None:
    study = make_study()
    figure, trend = main_figures(study)["horizon_excess_h5"], study.verdict.by_horizon[1]
    assert list(trace(figure, "val_score").y) == pytest.approx(trend.excess_loss)
    assert figure.layout.meta["note"] == f"Verdict: {trend.verdict.value.replace('_', ' ')}."


def test_residuals_are_what_each_form_leaves_over_and_a_constants_sum_to_zero(make_study: Make) -> None:
    study = make_study()
    figure = main_figures(study)["residuals"]
    loss = -np.array(study.verdict.overall.excess_loss)
    assert list(trace(figure, "constant").y) == pytest.approx(loss - loss.mean())
    for form in study.verdict.fit.forms:
        left = np.asarray(trace(figure, form.form.replace("_", " ")).y)
        assert (left**2).sum() == pytest.approx(form.rss, abs=1e-15)


def test_the_profile_of_alpha_is_lowest_at_zero_and_shades_its_interval(make_study: Make) -> None:
    study = make_study()
    figure = main_figures(study)["alpha_profile"]
    assert min(figure.data[0].y) == pytest.approx(0.0, abs=1e-9)
    (band,) = figure.layout.shapes
    assert (band.x0, band.x1) == (study.verdict.exponent.low, study.verdict.exponent.high)


def test_no_profile_is_drawn_below_four_budgets_and_no_forecast_below_three(make_study: Make) -> None:
    assert "alpha_profile" not in main_figures(make_study(budgets=("20K", "60K", "200K")))
    assert "held_out" not in main_figures(make_study(budgets=("20K", "60K")))


def test_the_held_out_budget_is_drawn_beside_the_band_that_was_foretold(make_study: Make) -> None:
    study = make_study()
    figure, found = main_figures(study)["held_out"], study.verdict.fit.extrapolation
    average = trace(figure, "average")
    assert average.y[0] - average.error_y.arrayminus[0] == pytest.approx(found.low)
    assert average.y[0] + average.error_y.array[0] == pytest.approx(found.high)
    measured = trace(figure, "measured (star: held out)")
    assert list(measured.marker.symbol) == ["circle", "circle", "circle", "star"]
    assert measured.y[-1] == pytest.approx(found.observed)


def test_compute_is_operations_of_a_window_times_the_windows_seen(make_study: Make) -> None:
    study = make_study()
    figure = main_figures(study)["excess_against_flops"]
    per_window = study.grid.set_index("arch_id").loc["arch-60K", "flops_training"]
    assert set(trace(figure, "60K").x) == {per_window * 200 * 128}
    assert "excess_against_flops" not in main_figures(replace(study, grid=study.grid.head(0)))


def test_the_best_architectures_are_the_shapes_of_the_lowest_losses(make_study: Make) -> None:
    study = make_study()
    rows = study.trials.query("horizon == 1 and budget == '200K'").dropna(subset=["value"])
    drawn = trace(main_figures(study)["best_architectures_h1"], "200K")
    best = rows.nsmallest(5, "value")
    assert [number for number, _ in drawn.customdata] == best["number"].to_list()
    assert list(drawn.x) == best["d_model"].to_list()


def test_a_test_against_the_best_baseline_has_the_sign_of_the_gain(make_study: Make) -> None:
    study = make_study()
    worse = replace(study, date_losses=study.date_losses.assign(loss=study.date_losses["loss"] + 0.1))
    assert all(test.statistic < 0 and test.p_value < 0.05 for test in dm_tests(worse).values())
    assert len(dm_tests(study)) == 8


def test_a_confidence_set_leaves_out_what_is_far_worse(make_study: Make) -> None:
    study = make_study()
    hit = study.date_losses["budget"] == "20K"
    losses = study.date_losses["loss"]
    worse = replace(study, date_losses=study.date_losses.assign(loss=losses.mask(hit, losses + 1.0)))
    found = confidence_sets(worse)
    assert set(found) == {1, 5}
    assert all("20K" in chosen.left_out for chosen in found.values())
    assert all({*chosen.kept, *chosen.left_out} > {"garch", "600K"} for chosen in found.values())
