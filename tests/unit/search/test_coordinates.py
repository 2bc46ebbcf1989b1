import numpy as np
import pandas as pd
import pytest
from search_toys import toy_grid

from finscale.core.errors import Fault
from finscale.search.coordinates import COORDINATES, coordinates, nearest_row, ranges

BUDGETS = [5_000, 20_000, 50_000, 200_000, 500_000, 2_000_000, 20_000_000, 200_000_000, 2_000_000_000]


def named(point: np.ndarray) -> dict[str, float]:
    return dict(zip(COORDINATES, point, strict=True))


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_rows_own_coordinates_map_back_to_it(budget: int) -> None:
    grid = toy_grid(budget)
    points, arch_ids = coordinates(grid), list(grid["arch_id"])
    assert [nearest_row(points, arch_ids, named(point)) for point in points] == list(range(len(grid)))


def test_coordinates_are_the_published_formulas() -> None:
    row = {"d_model": 64, "n_layers": 2, "n_heads": 8, "d_ff": 256, "n_params": 90_000, "budget": "100K"}
    assert coordinates(pd.DataFrame([row])) == pytest.approx(np.array([[10 / 15, -0.4, 3.0, 4.0]]))


def test_a_grid_that_grows_does_not_move_old_coordinates(grid: pd.DataFrame) -> None:
    assert np.array_equal(coordinates(grid)[:4], coordinates(grid.iloc[:4]))


def test_ties_go_to_the_lowest_arch_id() -> None:
    points = np.array([[0.5, 0.2, 1, 2], [0.5, -0.2, 1, 2], [0.9, 0.0, 1, 2]])
    target = {"shape": 0.5, "size": 0.0, "log2_heads": 1.0, "ff_ratio": 2.0}
    assert nearest_row(points, ["b", "a", "c"], target) == 1
    assert nearest_row(points, ["a", "b", "c"], target) == 0


def test_distances_are_weighted_as_published() -> None:
    """Points at weighted distances 1.00, 1.01, 1.02 and 1.03, each along its own coordinate."""
    weights = np.array([10, 0.5, 0.7, 0.7])
    points = np.diag(np.array([1.00, 1.01, 1.02, 1.03]) / weights)
    origin = dict.fromkeys(COORDINATES, 0.0)
    for first in range(4):
        assert nearest_row(points[first:], ["a"] * 4, origin) == 0
        assert nearest_row(points[first:][::-1], ["a"] * 4, origin) == 3 - first


def test_a_row_outside_the_band_is_refused(grid: pd.DataFrame) -> None:
    with pytest.raises(Fault, match=r"grid coordinate size must lie in -1\.\.1"):
        coordinates(grid.assign(budget="40K"))


def test_a_sampler_looks_only_where_there_are_rows(grid: pd.DataFrame) -> None:
    spans = ranges(coordinates(grid))
    assert (spans["ff_ratio"].low, spans["ff_ratio"].high) == (2.0, 4.0)
    assert 0 < spans["shape"].low < spans["shape"].high < 1
