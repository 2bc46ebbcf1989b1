"""What a report shows of one cell's search."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from finscale.reporting.dimension_figures import (
    MIN_TRIALS,
    importances,
    parallel_coordinates,
    parameter_importance,
)
from finscale.reporting.dimensions import ABSENT, varied, within_reach
from finscale.reporting.leaderboard import leaderboard, seed_spread
from finscale.reporting.search_figures import optimisation_history
from finscale.reporting.searches import cell_searches
from finscale.reporting.study import CellKey, ReportInput

Make = Callable[..., ReportInput]
KEY = CellKey("20K", 1)


def some_trials(n_trials: int = 50) -> pd.DataFrame:
    """Trials whose loss hangs on the learning rate and, less, on the pooling."""
    rng = np.random.default_rng(0)
    pooling = rng.choice(["mean", "last"], n_trials)
    rate = 10 ** rng.uniform(-4, -2, n_trials)
    return pd.DataFrame(
        {
            "number": range(n_trials),
            "kind": "random",
            "state": "COMPLETE",
            "outcome": "complete",
            "pruned_loss": np.nan,
            "value": 0.6 + 0.05 * (np.log10(rate) + 3) ** 2 + 0.004 * (pooling == "last"),
            "d_model": rng.choice([32, 64], n_trials),
            "n_layers": rng.choice([2, 4], n_trials),
            "n_heads": 4,
            "d_ff": 128,
            "n_params": rng.integers(18_000, 22_000, n_trials),
            "learning_rate": rate,
            "dropout": 0.1,
            "pooling": pooling,
        }
    )


def named(trials: pd.DataFrame) -> dict[str, np.ndarray]:
    return {dimension.name: dimension.values for dimension in varied(trials)}


def trace(figure: go.Figure, name: str) -> go.Scatter:
    return next(found for found in figure.data if found.name == name)


def test_what_varies_is_found_and_what_does_not_is_left_out() -> None:
    assert set(named(some_trials())) == {"width / depth", "N", "d_ff / d_model", "learning rate", "pooling"}


def test_a_wide_range_is_logarithmic_and_words_are_places() -> None:
    trials = some_trials()
    found = {dimension.name: dimension for dimension in varied(trials)}
    assert found["learning rate"].is_log
    assert found["learning rate"].values == pytest.approx(np.log10(trials["learning_rate"]))
    assert not found["N"].is_log
    assert found["pooling"].words == ("last", "mean")
    assert (found["pooling"].values == (trials["pooling"] == "mean")).all()


def test_a_number_that_a_trial_did_not_draw_counts_as_the_median_and_a_word_as_absent() -> None:
    trials = some_trials(5).assign(momentum=[0.3, None, 0.5, 0.9, None], schedule=["a", None, "b", "a", "b"])
    found = {dimension.name: dimension for dimension in varied(trials)}
    assert found["momentum"].values.tolist() == [0.3, 0.5, 0.5, 0.9, 0.5]
    assert found["schedule"].words[int(found["schedule"].values[1])] == ABSENT


def test_importance_goes_to_what_the_loss_hangs_on() -> None:
    found = importances(some_trials())
    assert next(iter(found)) == "learning rate"
    assert found["learning rate"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert found == importances(some_trials())


def test_one_disaster_does_not_take_all_importance() -> None:
    trials = some_trials()
    trials.loc[0, "value"] = 50.0
    assert importances(trials)["learning rate"] > 0.7


def test_no_importance_is_claimed_from_few_trials_and_the_figure_says_so() -> None:
    few = some_trials(MIN_TRIALS - 1)
    assert importances(few) == {}
    figure = parameter_importance(few, title="x")
    assert figure.layout.meta["note"].startswith(f"Too few: {MIN_TRIALS - 1} complete trials")
    assert parameter_importance(some_trials(), title="x").layout.meta["note"] == "From 50 complete trials."


def test_every_complete_trial_is_one_line_through_every_axis() -> None:
    trials = some_trials()
    trials.loc[3, ["state", "value"]] = ["FAIL", np.nan]
    figure = parallel_coordinates(trials, title="x", axis="log loss (nats)")
    n_axes = len(varied(trials)) + 1
    lines = [np.reshape(found.y, (-1, n_axes + 1)) for found in figure.data]
    assert sum(len(found) for found in lines) == 49
    drawn = np.concatenate(lines)[:, :-1]
    assert (drawn.min(axis=0), drawn.max(axis=0)) == (pytest.approx(np.zeros(n_axes)), pytest.approx(1.0))
    best = np.reshape(trace(figure, "best tenth").customdata, (-1, n_axes + 1, 2))[:, 0, 0]
    assert list(best) == list(trials.nsmallest(5, "value")["number"])


def test_the_best_lines_lie_above_the_others() -> None:
    figure = parallel_coordinates(some_trials(), title="x", axis="loss")
    assert [found.name for found in figure.data] == ["worse half", "better half", "best tenth"]


def test_a_cell_without_a_complete_trial_has_empty_figures() -> None:
    trials = some_trials(3).assign(state="FAIL", value=np.nan)
    assert not parallel_coordinates(trials, title="x", axis="loss").data
    assert not len(parameter_importance(trials, title="x").data[0].x)


def test_a_history_shows_where_pruned_and_diverged_trials_ended() -> None:
    trials = some_trials(10)
    trials.loc[4, ["state", "outcome", "value", "pruned_loss"]] = ["PRUNED", "pruned", np.nan, 0.61]
    trials.loc[5, ["state", "outcome", "value"]] = ["FAIL", "diverged", np.nan]
    trials.loc[6, ["state", "outcome", "value"]] = ["FAIL", "failed", np.nan]
    figure = optimisation_history(trials, title="x", axis="loss")
    marks = dict(zip(trace(figure, "random").x, trace(figure, "random").marker.symbol, strict=True))
    assert {number: marks.get(number) for number in (3, 4, 5, 6)} == {
        **{3: "circle", 4: "x-thin-open", 5: "triangle-up-open"},
        6: None,
    }
    heights = dict(zip(trace(figure, "random").x, trace(figure, "random").y, strict=True))
    complete = trials[trials["state"] == "COMPLETE"]["value"].to_numpy()
    assert (heights[4], heights[5]) == (0.61, within_reach(complete))
    assert set(trace(figure, "best so far").x) == {0, 1, 2, 3, 7, 8, 9}
    assert figure.layout.meta["note"] == "1 of 10 trials failed or run."


def test_the_leaderboard_lists_the_best_first_and_says_how_many_were_tried(make_study: Make) -> None:
    study = make_study()
    trials = study.trials.query("budget == '20K' and horizon == 1")
    table = leaderboard(study, KEY)
    losses = [row[3].value for row in table.rows]
    assert losses == trials["value"].dropna().nsmallest(10).to_list()
    assert [row[4].value for row in table.rows] == pytest.approx(
        [trials["base_rate_loss"].iloc[0] - loss for loss in losses]
    )
    assert f"the best of {len(trials)} trials tried" in table.note


def test_a_trial_that_was_pruned_was_tried_and_one_that_runs_was_not(make_study: Make) -> None:
    study = make_study()
    trials = study.trials.copy()
    own = trials.query("budget == '20K' and horizon == 1").index
    trials.loc[own[:3], "state"] = ["PRUNED", "RUNNING", "FAIL"]
    trials.loc[own[:3], "value"] = np.nan
    note = leaderboard(replace(study, trials=trials), KEY).note
    assert f"the best of {len(own) - 1} trials tried" in note


def test_the_leaderboard_says_what_seeds_alone_do(make_study: Make) -> None:
    study = make_study()
    cells = study.cells.query("budget == '20K' and horizon == 1 and split == 'val_score'")
    spread = np.std(cells["loss"].to_list(), ddof=1)
    assert seed_spread(study, KEY) == pytest.approx(spread)
    assert f"Seeds alone spread by {spread:.4f}" in leaderboard(study, KEY).note
    alone = replace(study, cells=study.cells.query("seed == 0"))
    assert "is not known" in leaderboard(alone, KEY).note


def test_the_leaderboard_shows_every_searched_setting_that_varies(make_study: Make) -> None:
    study = make_study()
    n_trials = len(study.trials)
    settings = {
        "learning_rate": np.geomspace(1e-4, 1e-3, n_trials),
        "epochs": 50,
        "pooling": ["a", "b"] * (n_trials // 2),
    }
    table = leaderboard(replace(study, trials=study.trials.assign(**settings)), KEY)
    names = [column.name for column in table.columns]
    assert names[-2:] == ["learning rate", "pooling"]
    best = study.trials.query("budget == '20K' and horizon == 1").nsmallest(1, "value").index[0]
    assert str(table.rows[0][-2]) == f"{settings['learning_rate'][best]:.3g}"


def test_every_cell_with_trials_has_a_leaderboard_and_three_figures(make_study: Make) -> None:
    found = cell_searches(make_study(horizons=(1,)))
    assert [search.key.id for search in found] == ["20K_h1", "60K_h1", "200K_h1", "600K_h1"]
    assert [name.split("_")[0] for name in found[0].figures] == ["history", "importance", "parallel"]
    for search in found:
        for figure in search.figures.values():
            assert figure.layout.meta["provenance"].startswith("commit 8426252")
