from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, create_trial
from search_toys import toy_grid

from finscale.core.errors import Fault
from finscale.search.coordinates import COORDINATES, DISTRIBUTIONS, Coordinates, coordinates

BUDGETS = [5_000, 20_000, 50_000, 200_000, 500_000, 2_000_000, 20_000_000, 200_000_000, 2_000_000_000]


def recorded(point: np.ndarray, **options: Any) -> FrozenTrial:
    params = dict(zip(COORDINATES, point[:4].tolist(), strict=True))
    return create_trial(params=params, distributions=DISTRIBUTIONS, value=1.0, user_attrs=options)


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_rows_own_coordinates_map_back_to_it(budget: int) -> None:
    rows = Coordinates.of(toy_grid(budget))
    assert [rows.nearest(point) for point in rows.points] == list(range(len(rows.points)))


def test_candidates_of_one_architecture_map_back_to_themselves_by_their_options(grid: pd.DataFrame) -> None:
    parts = [grid.assign(pooling=p, n_kv_heads=k) for p in ("mean", "last") for k in (4, 1, 2)]
    rows = Coordinates.of(pd.concat(parts, ignore_index=True), ["pooling", "n_kv_heads"])
    assert rows.points.shape == (6 * len(grid), 6)
    assert [rows.nearest(point) for point in rows.points] == list(range(len(rows.points)))


def test_coordinates_are_the_published_formulas() -> None:
    row = {"d_model": 64, "n_layers": 2, "n_heads": 8, "d_ff": 256, "n_params": 90_000, "budget": "100K"}
    assert coordinates(pd.DataFrame([row])) == pytest.approx(np.array([[10 / 15, -0.4, 3.0, 4.0]]))


def test_a_grid_that_grows_does_not_move_old_coordinates(grid: pd.DataFrame) -> None:
    assert np.array_equal(coordinates(grid)[:4], coordinates(grid.iloc[:4]))


def test_numbers_rank_by_size_and_words_by_first_appearance(grid: pd.DataFrame) -> None:
    table = grid.iloc[:4].assign(context_length=[30, 120, 60, 30], norm=["rms", "layer", None, "rms"])
    rows = Coordinates.of(table, ["context_length", "norm"])
    assert rows.points[:, 4:].tolist() == [[0, 0], [2, 1], [1, 2], [0, 0]]


def test_an_option_with_one_value_adds_no_coordinate(grid: pd.DataFrame) -> None:
    assert Coordinates.of(grid.assign(pooling="mean"), ["pooling"]).points.shape == (len(grid), 4)


def test_a_trial_is_read_back_to_its_row_after_its_lists_went_through_json(grid: pd.DataFrame) -> None:
    table = grid.iloc[:2].assign(features=[("close", "volume"), ("close",)])
    rows = Coordinates.of(table, ["features"])
    for position, features in enumerate((["close", "volume"], ["close"])):
        point = rows.read(recorded(rows.points[position], features=features))
        assert point.tolist() == rows.points[position].tolist()


def test_an_option_unknown_to_the_table_lies_in_the_middle(grid: pd.DataFrame) -> None:
    rows = Coordinates.of(grid.iloc[:3].assign(norm=["a", "b", "c"]), ["norm"])
    assert rows.read(recorded(rows.points[0], norm="d"))[4] == 1.0


def test_ties_go_to_the_lowest_arch_id() -> None:
    points = np.array([[0.5, 0.2, 1, 2], [0.5, -0.2, 1, 2], [0.9, 0.0, 1, 2]])
    target = np.array([0.5, 0.0, 1.0, 2.0])
    assert Coordinates(points, ("b", "a", "c"), {}).nearest(target) == 1
    assert Coordinates(points, ("a", "b", "c"), {}).nearest(target) == 0


def test_distances_are_weighted_as_published() -> None:
    """Points at weighted distances 1.00, 1.01, 1.02, 1.03 and 1.04, each along its own coordinate."""
    weights = np.array([10, 0.5, 0.7, 0.7, 1.0])
    points = np.diag(np.array([1.00, 1.01, 1.02, 1.03, 1.04]) / weights)
    ranks = {"norm": {"a": 0, "b": 1}}
    for first in range(5):
        kept = points[first:]
        for rows, nearest in ((kept, 0), (kept[::-1], len(kept) - 1)):
            assert Coordinates(rows, ("a",) * len(rows), ranks).nearest(np.zeros(5)) == nearest


def test_a_row_outside_the_band_is_refused(grid: pd.DataFrame) -> None:
    with pytest.raises(Fault, match=r"grid coordinate size must lie in -1\.\.1"):
        coordinates(grid.assign(budget="40K"))
