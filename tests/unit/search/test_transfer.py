import math
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from search_toys import IDENTITY

from finscale.core.budgets import Cell
from finscale.search.study import open_study
from finscale.search.transfer import Optimum, admissible, optima_below, predict, report, with_octaves

CELL = Cell.parse("200K", 1)


def optimum(n_params: int, **values: object) -> Optimum:
    return Optimum(cell="20K_h1", n_params=n_params, values=values)


def finished_cell(
    directory: Path,
    value: float = 0.6,
    *,
    ended: str = "complete",
    rate: float = 1e-3,
    n_params: int = 20_000,
) -> None:
    study = open_study(directory, name="s", identity=IDENTITY, attributes={"ended": ended})
    trial = optuna.trial.create_trial(
        params={"learning_rate": rate},
        distributions={"learning_rate": FloatDistribution(1e-5, 1e-1)},
        value=value,
        user_attrs={"n_params": n_params},
    )
    study.add_trial(trial)


def test_a_power_law_over_three_optima_is_continued_exactly() -> None:
    law = [optimum(n, learning_rate=3.0 * n**-0.4) for n in (5_000, 20_000, 80_000)]
    assert predict(law, 320_000)["learning_rate"] == pytest.approx(3.0 * 320_000**-0.4)


def test_the_shape_coordinate_is_a_logarithm_already_and_is_continued_as_a_line() -> None:
    law = [optimum(n, shape=0.1 * math.log(n) - 0.5, log2_heads=math.log10(n)) for n in (10**4, 10**5)]
    found = predict(law, 10**6)
    assert found == {"shape": pytest.approx(0.1 * math.log(10**6) - 0.5), "log2_heads": pytest.approx(6)}


def test_what_is_constant_stays_and_what_has_no_logarithm_takes_its_mean() -> None:
    law = [optimum(10**4, epochs=75, weight_decay=0.0), optimum(10**5, epochs=75, weight_decay=0.02)]
    found = predict(law, 10**7)
    assert found == {"epochs": pytest.approx(75), "weight_decay": pytest.approx(0.01)}


def test_a_word_follows_the_largest_cell_and_what_one_cell_lacks_is_not_predicted() -> None:
    law = [optimum(10**4, optimizer="sgd", momentum=0.9), optimum(10**5, optimizer="adamw")]
    assert predict(law, 10**6) == {"optimizer": "adamw"}


def test_cells_of_one_size_give_the_mean() -> None:
    assert predict([optimum(10**4, dropout=0.1), optimum(10**4, dropout=0.3)], 10**5) == {
        "dropout": pytest.approx(0.2)
    }


def test_the_learning_rate_alone_moves_an_octave_either_way() -> None:
    found = list(with_octaves({"learning_rate": 1e-3, "dropout": 0.2}))
    assert [one["learning_rate"] for one in found] == [1e-3, 5e-4, 2e-3]
    assert {one["dropout"] for one in found} == {0.2}
    assert list(with_octaves({"dropout": 0.2})) == [{"dropout": 0.2}]


@pytest.mark.parametrize(
    ("found", "value", "expected"),
    [
        (FloatDistribution(1e-4, 1e-3, log=True), 0.5, 1e-3),
        (FloatDistribution(0.1, 0.3), 0.01, 0.1),
        (FloatDistribution(0.0, 1.0, step=0.25), 0.6, 0.5),
        (CategoricalDistribution((50, 75, 100)), 86, 75),
        (CategoricalDistribution((50, 75, 100)), 88, 100),
        (CategoricalDistribution((0.0, 0.1)), 0.04, 0.0),
        (IntDistribution(1, 64, log=True), 90.0, 64),
        (IntDistribution(1, 9), 3.4, 3),
        (CategoricalDistribution(("adamw", "sgd")), "sgd", "sgd"),
        (CategoricalDistribution(("adamw", "sgd")), "lion", "adamw"),
    ],
)
def test_a_prediction_is_clamped_to_the_nearest_value_of_its_distribution(
    found: optuna.distributions.BaseDistribution, value: object, expected: object
) -> None:
    assert admissible(found, value) == expected


def test_only_finished_smaller_cells_of_this_horizon_and_experiment_are_read(tmp_path: Path) -> None:
    finished_cell(tmp_path / "20K_h1", n_params=21_000)
    finished_cell(tmp_path / "5K_h1", n_params=5_100)
    finished_cell(tmp_path / "10K_h1", ended="stopped")
    finished_cell(tmp_path / "5K_h3")
    finished_cell(tmp_path / "200K_h1")
    finished_cell(tmp_path / "2M_h1")
    (tmp_path / "50K_h1").mkdir()
    (tmp_path / "notes_h1").mkdir()
    found = optima_below(tmp_path / "200K_h1", CELL, experiment=IDENTITY.experiment)
    assert [(one.cell, one.n_params) for one in found] == [("5K_h1", 5_100), ("20K_h1", 21_000)]
    assert optima_below(tmp_path / "200K_h1", CELL, experiment="another") == []


def trial(kind: str, value: float) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(value=value, user_attrs={"kind": kind})


def test_the_regret_is_of_the_best_transferred_trial_over_the_best_of_the_others() -> None:
    trials = [trial("extreme", 0.7), trial("transfer", 0.65), trial("transfer", 0.62), trial("sampler", 0.60)]
    found = report([*trials, trial("supplemental", 0.1)], cells=("5K_h1", "20K_h1"))
    assert (found.n_transferred, found.best_transferred, found.best_searched) == (2, 0.62, 0.60)
    assert found.regret == pytest.approx(0.02)
    alone = report([trial("transfer", 0.62)], cells=("5K_h1", "20K_h1"))
    assert (alone.best_searched, alone.regret) == (None, None)
