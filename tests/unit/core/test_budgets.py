"""Budgets, horizons and cells are canonical whatever was typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finscale.core.budgets import Cell, cell_id, cells_of, format_budget, parse_budget, parse_horizon
from finscale.core.errors import Fault, FinscaleError


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("2000K", "2M"),
        ("1.5M", "1.5M"),
        (2e9, "2B"),
        ("2e9", "2B"),
        ("20m", "20M"),
        (5000, "5K"),
        ("0.5B", "500M"),
    ],
)
def test_equal_budgets_have_one_name(typed, canonical):
    assert format_budget(parse_budget(typed)) == canonical


@given(st.integers(4_000, 10**13))
def test_the_name_of_a_budget_reads_back_to_the_same_count(n_params):
    assert parse_budget(format_budget(n_params)) == n_params


@pytest.mark.parametrize("typed", ["30X", "../../x", "", "-5K", "nan", "1e400", True, "20M/..", "0", "1K"])
def test_a_malformed_or_tiny_budget_is_refused(typed):
    with pytest.raises(Fault, match="budget must be"):
        parse_budget(typed)


@pytest.mark.parametrize("typed", [0, -1, 1.5, "x", None, True, float("inf"), 10_001])
def test_a_horizon_is_a_positive_whole_number_of_bars(typed):
    with pytest.raises(Fault, match="horizon must be"):
        parse_horizon(typed)


def test_a_cell_id_is_normalised_and_reads_back():
    assert cell_id("20000K", 3.0) == "20M_h3"
    assert Cell.from_id("20M_h3") == Cell.parse("20M", 3)


def test_cells_come_smallest_first_without_repeats_and_can_begin_anywhere():
    cells = cells_of(["200K", "20K", "20000"], [5, 1], from_cell="20K_h5")
    assert [cell.id for cell in cells] == ["20K_h5", "200K_h1", "200K_h5"]


def test_every_malformed_coordinate_of_a_sweep_is_named():
    with pytest.raises(FinscaleError, match=r"30X(.|\n)*got 0"):
        cells_of(["30X"], [0])


def test_a_sweep_cannot_begin_with_a_cell_it_does_not_have():
    with pytest.raises(Fault, match="did you mean '20K_h5'"):
        cells_of(["20K"], [1, 5], from_cell="20K_h6")
