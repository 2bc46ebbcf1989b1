"""best_params.json is made anew from its study wherever a pipeline reads it."""

import logging
from pathlib import Path

import optuna
import pytest
from kedro.io import DatasetError
from optuna.distributions import FloatDistribution, IntDistribution

from finscale.datasets.study import BestParamsDataset
from finscale.search.best import BEST_FILE, write_best
from finscale.search.study import StudyIdentity, open_study

IDENTITY = StudyIdentity(**dict.fromkeys(StudyIdentity.model_fields, "x"))
SHAPE = {"d_model": 8, "n_layers": 2, "n_heads": 2, "d_ff": 16, "n_params": 5000, "arch_id": "a"}
RAN = {"micro_batch_size": 64, "accumulation_steps": 2, "effective_batch_size": 128, "seed": 3}
FROM = {"model_family": "patchtst", "data_hash": "d", "config_hash": "c", "kind": "random", "momentum": 0.9}
ATTRIBUTES = {
    "baselines": {},
    "dimensions": ["learning_rate", "momentum", "d_model", "slow_beta"],
    "fixed": {"weight_decay": 1e-3, "warmup_steps": 100, "dropout": 0.1},
}


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    found = open_study(tmp_path, name="s", identity=IDENTITY, attributes=ATTRIBUTES)
    trial = optuna.trial.create_trial(
        params={"learning_rate": 5e-4, "epochs": 50},
        distributions={"learning_rate": FloatDistribution(1e-5, 1e-2), "epochs": IntDistribution(1, 99)},
        value=0.6,
        user_attrs={**SHAPE, **RAN, **FROM},
    )
    found.add_trial(trial)
    return found


def dataset(folder: Path) -> BestParamsDataset:
    return BestParamsDataset(filepath=str(folder / BEST_FILE), optional=True)


@pytest.mark.parametrize("length", [None, 0, 40])
def test_a_missing_or_truncated_winner_is_rebuilt_byte_for_byte_and_said(
    tmp_path: Path, study: optuna.Study, length: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    write_best(study, tmp_path / BEST_FILE)
    before = (tmp_path / BEST_FILE).read_bytes()
    (tmp_path / BEST_FILE).unlink()
    if length is not None:
        (tmp_path / BEST_FILE).write_bytes(before[:length])
    with caplog.at_level(logging.WARNING):
        assert dataset(tmp_path).load()["best_val_loss"] == 0.6
    assert (tmp_path / BEST_FILE).read_bytes() == before
    assert "rebuilt from its study" in caplog.text


def test_a_whole_winner_is_read_as_it_is(
    tmp_path: Path, study: optuna.Study, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / BEST_FILE).write_text('{"mine": 1}')
    assert dataset(tmp_path).load() == {"mine": 1}
    assert "rebuilt" not in caplog.text


def test_without_a_study_a_missing_winner_is_none_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    assert dataset(tmp_path).load() is None
    (tmp_path / BEST_FILE).write_text("{")
    with pytest.raises(DatasetError, match="be valid JSON"):
        dataset(tmp_path).load()


def test_the_winner_holds_fixed_training_parameters_and_every_further_dimension(
    tmp_path: Path, study: optuna.Study
) -> None:
    found = write_best(study, tmp_path / BEST_FILE)
    assert found is not None
    assert found.training.model_dump() == {
        "learning_rate": 5e-4,
        "epochs": 50,
        "weight_decay": 1e-3,
        "warmup_steps": 100,
        "dropout": 0.1,
    }
    assert found.searched == {"momentum": 0.9}
