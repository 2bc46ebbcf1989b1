import pytest

from finscale.core.errors import Fault, FinscaleError
from finscale.training import config
from finscale.training.config import SMOKE_TEST_DEFAULTS, ExecutionConfig, TrainingConfig, resolve_device


def test_every_fault_of_a_training_config_is_raised_at_once() -> None:
    values = {"learning_rate": -1, "epochs": 0, "weight_decay": 0.1, "warmup": 3}
    with pytest.raises(FinscaleError) as caught:
        TrainingConfig.read(values, subject="training")
    lines = ("training.learning_rate", "training.epochs", "training.warmup_steps", "training.warmup must")
    assert all(line in str(caught.value) for line in lines)


def test_a_device_this_machine_lacks_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(Fault, match=r"device must be one this machine has .*set device=auto"):
        resolve_device(ExecutionConfig(device="cuda"))


def test_auto_takes_cuda_before_mps_before_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, expected in [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]:
        monkeypatch.setattr("torch.cuda.is_available", lambda found=cuda: found)
        monkeypatch.setattr("torch.backends.mps.is_available", lambda found=mps: found)
        assert resolve_device(ExecutionConfig()).type == expected


def test_the_smoke_test_defaults_are_legal_training_values() -> None:
    values = {key: value for key, value in SMOKE_TEST_DEFAULTS["training"].items() if key != "dropout"}
    assert TrainingConfig.read(values).epochs == 75
    assert config.SMOKE_TEST_DEFAULTS["architecture"]["d_ff"] == 1024


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"decay_per_epoch": 0.9}, "decay_per_epoch must be left out where schedule=cosine, got 0.9"),
        ({"flat_epochs": 2, "schedule": "constant"}, "flat_epochs must be left out where schedule=constant"),
        ({"schedule": "exponential"}, "decay_per_epoch must be given for schedule=exponential"),
        ({"warmup_factor": 0.1, "warmup_steps": 0}, "warmup_factor must be left out where warmup_steps=0"),
    ],
)
def test_an_option_that_the_schedule_would_not_read_is_refused(changes: dict[str, object], line: str) -> None:
    values = {"learning_rate": 1e-3, "epochs": 5, "weight_decay": 0.0, "warmup_steps": 2, **changes}
    with pytest.raises(FinscaleError, match=line):
        TrainingConfig.read(values)
