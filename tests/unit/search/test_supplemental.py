import json
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState
from search_toys import drive

from finscale.archgrid.base import BASE
from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.search.config import SearchConfig
from finscale.search.proposals import Proposer
from finscale.search.space import SearchSpace
from finscale.search.supplemental import Bounds, Supplements, read_plan, resolve_plan

CONF = Path(__file__).parents[3] / "conf/supplemental"
CELL = Cell.parse("20K", 1)
SPACE = SearchSpace().bind("patchtst")
CONFIG = SearchConfig(n_trials=2, n_random=1, sampler="sample", executor="inline")


def bounds(table: pd.DataFrame) -> Bounds:
    return Bounds(table, SPACE, BASE, n_features=25, context_length=60, tolerance=0.25)


def plan_file(directory: Path, text: str) -> Path:
    path = directory / "plan.yml"
    path.write_text(text)
    return path


def resolved(directory: Path, grid: pd.DataFrame, text: str) -> list:
    return resolve_plan(read_plan(plan_file(directory, text)), CELL, bounds(grid))


@pytest.fixture(scope="module")
def proposer(grid: pd.DataFrame) -> Proposer:
    return Proposer(grid, CONFIG, SPACE, seed=7)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        *((f"2M_h{horizon}", [(64, 64, heads, 128) for heads in (8, 4, 2)]) for horizon in (1, 3, 5)),
        ("2M_h10", []),
        ("20M_h1", [(128, layers, heads, 256) for layers in (160, 180) for heads in (8, 4)]),
    ],
)
def test_the_plan_of_this_project_names_rows_of_its_cells_grids(cell: str, expected: list) -> None:
    budget = Cell.from_id(cell)
    table = enumerate_grid(budget.n_budget, n_features=25, context_length=60)
    found = resolve_plan(read_plan(CONF / "plan.yml"), budget, bounds(table))
    rows = [row for row, _ in found]
    assert [(row["d_model"], row["n_layers"], row["n_heads"], row["d_ff"]) for row in rows] == expected
    assert {row["arch_id"] for row in rows} <= set(table["arch_id"])


def test_the_impossible_row_is_refused_with_its_true_count_and_its_neighbours() -> None:
    cell = Cell.from_id("20M_h1")
    table = enumerate_grid(cell.n_budget, n_features=25, context_length=60)
    message = r"d=128, L=160, d_ff=512\) must have N within 25% of 20M, got N = 31,\d+,\d+ \(31\.8M\); "
    with pytest.raises(FinscaleError, match=rf"{message}nearest admissible shapes: d=128, L=96, d_ff=512"):
        resolve_plan(read_plan(CONF / "too_large.yml"), cell, bounds(table))


def test_every_fault_of_a_plan_is_told_at_once(tmp_path: Path, grid: pd.DataFrame) -> None:
    rows = [
        "- {d_model: 64, n_layers: 256, n_heads: 2, d_ff: 128}",
        "- {d_model: 32, n_layers: 2, n_heads: 5, d_ff: 64}",
        "- {d_model: 32, n_layers: 2, n_heads: 4, d_ff: 64, training: {learning_rat: 1, epochs: 3}}",
    ]
    with pytest.raises(FinscaleError) as caught:
        resolved(tmp_path, grid, "\n".join(rows))
    for part in (
        "L=256",
        "n_heads must divide d_model",
        "learning_rat must be a searched",
        "epochs must lie",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{d_model: 3}", "hold a list of rows"),
        ("[]", "hold a list of rows"),
        ("- 3", "row 1 must be a mapping"),
        ("- {d_model: 8, n_layers: 2, n_heads: 2, depth: 3}", "row 1.depth must be a known key"),
        ("- {d_model: 8, n_layers: 2, n_heads: 2, budgets: [2Q]}", "budget must be"),
        ("- [", "be valid YAML"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FinscaleError, match=message):
        read_plan(plan_file(tmp_path, text))


def test_a_missing_plan_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FinscaleError, match=r"hpo\.supplemental must name a readable file"):
        read_plan(tmp_path / "gone.yml")


def test_a_width_left_out_is_the_one_of_the_grid_that_fits(tmp_path: Path, grid: pd.DataFrame) -> None:
    shapes = grid.groupby(["d_model", "n_layers", "n_heads"])["d_ff"].agg(["nunique", "first"]).reset_index()
    alone = shapes[shapes["nunique"] == 1].iloc[0]
    text = "- {d_model: %d, n_layers: %d, n_heads: %d}"
    ((row, _),) = resolved(tmp_path, grid, text % (alone["d_model"], alone["n_layers"], alone["n_heads"]))
    assert row["d_ff"] == alone["first"]
    several = shapes[shapes["nunique"] == 2]
    assert len(several)
    many = several.iloc[0]
    with pytest.raises(FinscaleError, match=r"must name its d_ff .* add d_ff: \d+ or \d+"):
        resolved(tmp_path, grid, text % (many["d_model"], many["n_layers"], many["n_heads"]))


def test_a_shape_that_the_grid_lacks_may_be_named(tmp_path: Path, grid: pd.DataFrame) -> None:
    ((row, _),) = resolved(tmp_path, grid, "- {d_model: 20, n_layers: 3, n_heads: 5, d_ff: 60}")
    assert row["arch_id"] not in set(grid["arch_id"])
    assert json.loads(row["config"])["d_ff"] == 60
    assert abs(row["n_params"] - 20_000) <= 5_000
    assert set(grid.columns) <= set(row)


TWO = """
- {d_model: 20, n_layers: 3, n_heads: 5, d_ff: 60}
- {d_model: 20, n_layers: 3, n_heads: 4, d_ff: 60, training: {learning_rate: 5.0e-4}}
"""


def test_rows_run_on_top_of_the_search_with_the_best_training_or_the_given_one(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    supplements = Supplements(resolved(tmp_path, grid, TWO), proposer=proposer, space=SPACE)
    result, study = drive(
        tmp_path / "study", config=CONFIG, behaviours={0: 0.4, 1: 0.5}, supplements=supplements
    )
    trials = study.trials
    assert result.outcome == "complete"
    assert [trial.user_attrs["kind"] for trial in trials[2:]] == ["supplemental", "supplemental"]
    names = list(SPACE.training_names)
    best = {name: trials[0].params[name] for name in names}
    assert {name: trials[2].params[name] for name in names} == best
    assert {name: trials[3].params[name] for name in names} == {**best, "learning_rate": 5e-4}
    assert [trial.user_attrs["n_heads"] for trial in trials[2:]] == [5, 4]


def test_a_row_once_run_is_not_run_again_and_one_that_failed_is(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    rows = resolved(tmp_path, grid, TWO)
    directory = tmp_path / "study"
    drive(
        directory,
        config=CONFIG,
        behaviours={3: "raise"},
        supplements=Supplements(rows, proposer=proposer, space=SPACE),
    )
    result, study = drive(
        directory, config=CONFIG, supplements=Supplements(rows[::-1], proposer=proposer, space=SPACE)
    )
    assert [trial.state for trial in study.trials[2:]] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.COMPLETE,
    ]
    drive(directory, config=CONFIG, supplements=Supplements(rows, proposer=proposer, space=SPACE))
    assert (result.outcome, len(study.trials)) == ("complete", 5)


def test_supplemental_trials_do_not_count_towards_the_total(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    rows = resolved(tmp_path, grid, TWO)
    drive(tmp_path / "study", config=CONFIG, supplements=Supplements(rows, proposer=proposer, space=SPACE))
    more = CONFIG.model_copy(update={"n_trials": 3})
    _, study = drive(tmp_path / "study", config=more)
    kinds = [trial.user_attrs["kind"] for trial in study.trials]
    assert (len(kinds), kinds.count("supplemental"), kinds[-1] != "supplemental") == (5, 2, True)


def test_a_row_in_flight_is_adopted_even_outside_the_grid(
    tmp_path: Path, grid: pd.DataFrame, proposer: Proposer
) -> None:
    rows = resolved(tmp_path, grid, TWO)
    directory = tmp_path / "study"
    asked: list[int] = []

    def stop_in_the_third() -> bool:
        return bool(asked) and asked[-1] == 2

    result, study = drive(
        directory,
        config=CONFIG,
        supplements=Supplements(rows, proposer=proposer, space=SPACE),
        on_event=lambda event: asked.append(event.number) if event.kind == "asked" else None,
        should_stop=stop_in_the_third,
    )
    assert (result.outcome, study.trials[2].state) == ("stopped", TrialState.RUNNING)
    _, study = drive(directory, config=CONFIG, others=[row for row, _ in rows])
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    assert study.trials[2].user_attrs["n_heads"] == 5
