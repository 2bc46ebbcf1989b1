from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, create_trial

from finscale.search.coordinates import COORDINATES, DISTRIBUTIONS, Coordinates
from finscale.search.unit_cube import UnitCube

FREE: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "dropout": FloatDistribution(0.1, 0.3),
    "epochs": CategoricalDistribution((100, 50, 75)),
    "warmup_steps": IntDistribution(0, 500, step=250),
    "optimizer": CategoricalDistribution(("sgd", "adamw")),
}
VALUES = {"learning_rate": 1e-3, "dropout": 0.15, "epochs": 75, "warmup_steps": 250, "optimizer": "adamw"}


def trial_at(cube: UnitCube, position: int, values: dict[str, Any]) -> FrozenTrial:
    own = dict(zip(COORDINATES, cube.rows.points[position].tolist(), strict=True))
    distributions = {**DISTRIBUTIONS, **{name: FREE[name] for name in values}}
    return create_trial(params={**own, **values}, distributions=distributions, value=1.0)


@pytest.fixture
def cube(grid: pd.DataFrame) -> UnitCube:
    return UnitCube(Coordinates.of(grid), FREE)


def test_what_is_encoded_is_decoded(cube: UnitCube) -> None:
    for position in range(len(cube.row_points)):
        point = cube.encode(trial_at(cube, position, VALUES))
        found, values = cube.decode(point)
        assert found == position
        assert values == pytest.approx(VALUES)


def test_a_range_lies_on_its_own_scale_and_choices_by_rank(cube: UnitCube) -> None:
    assert cube.encode(trial_at(cube, 0, VALUES))[4:] == pytest.approx([0.5, 0.25, 0.5, 0.5, 1.0])


def test_rows_span_the_cube(cube: UnitCube) -> None:
    assert np.ptp(cube.row_points, axis=0) == pytest.approx(np.ones(4))
    assert cube.row_points.min() == 0


def test_a_coordinate_in_which_all_rows_agree_lies_in_the_middle(grid: pd.DataFrame) -> None:
    cube = UnitCube(Coordinates.of(grid.iloc[:1]), FREE)
    assert cube.row_points.tolist() == [[0.5] * 4]


def test_what_a_trial_did_not_draw_lies_in_the_centre(cube: UnitCube) -> None:
    without = {name: value for name, value in VALUES.items() if name != "learning_rate"}
    assert cube.encode(trial_at(cube, 0, without))[4] == pytest.approx(0.5)


def test_snapping_moves_finite_dimensions_upon_their_values_and_no_others(cube: UnitCube) -> None:
    snapped = cube.snapped(np.array([[0.31, 1.2, 0.6, 0.1, 0.7]]))
    assert snapped.tolist() == [[0.31, 1.0, 0.5, 0.0, 1.0]]


def test_decoded_values_are_the_choices_themselves(cube: UnitCube) -> None:
    _, values = cube.decode(np.array([0.5] * 4 + [1.0, 1.0, 0.9, 0.9, 0.1]))
    assert (values["epochs"], values["warmup_steps"], values["optimizer"]) == (100, 500, "sgd")
    assert values["learning_rate"] == 1e-2
