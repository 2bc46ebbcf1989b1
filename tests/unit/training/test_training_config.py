import warnings

import pytest
import torch

from finscale.core.errors import Fault, FinscaleError
from finscale.runtime.definition import TrainingSettings
from finscale.search.space import PUBLISHED_SPACE
from finscale.training import config
from finscale.training.config import (
    SMOKE_TEST_DEFAULTS,
    ExecutionConfig,
    SharedTraining,
    TrainingConfig,
    resolve_device,
)
from finscale.training.execution import executing


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
        (
            {"warmup_factor": 0.1, "schedule": "onecycle"},
            "warmup_factor must be left out .*schedule=onecycle",
        ),
        ({"warmup_steps": 1, "schedule": "onecycle"}, "warmup_steps must be at least 2 .*schedule=onecycle"),
        ({"betas": (0.9, 0.95), "optimizer": "sgd"}, "betas must be left out where optimizer=sgd"),
        ({"momentum": 0.9}, "momentum must be left out where optimizer=adamw.*choose optimizer=sgd"),
        ({"nesterov": True, "optimizer": "sgd"}, "nesterov must be left out without momentum"),
        ({"slow_beta": 0.99}, "slow_beta must be left out where optimizer=adamw"),
        ({"slow_weight": 3.0, "optimizer": "adam"}, "slow_weight must be left out where optimizer=adam,"),
        ({"loss": "huber"}, "huber_delta must be given for loss=huber"),
        ({"huber_delta": 1.0}, "huber_delta must be left out where loss=None"),
        ({"label_smoothing": 0.1, "focal_gamma": 2}, "label_smoothing must be left out where focal_gamma=2"),
        ({"min_delta_mode": "relative", "min_delta": 0}, "min_delta must be above 0 and below 1"),
        ({"class_weights": "balancd"}, "class_weights.*'balanced'.*did you mean 'balanced'"),
        ({"loss_weights": (1.0, 0.0)}, "loss_weights.1 must be greater than 0"),
    ],
)
def test_an_option_that_would_not_be_read_or_a_missing_one_is_refused(
    changes: dict[str, object], line: str
) -> None:
    values = {"learning_rate": 1e-3, "epochs": 5, "weight_decay": 0.0, "warmup_steps": 2, **changes}
    with pytest.raises(FinscaleError, match=line):
        TrainingConfig.read(values)


@pytest.mark.parametrize(
    ("typed", "read"), [("1 3", (1.0, 3.0)), ("balanced", "balanced"), (2, (2.0,)), ([1, 3], (1.0, 3.0))]
)
def test_class_weights_can_be_typed_on_a_command_line(typed: object, read: object) -> None:
    assert SharedTraining.read({"class_weights": typed}).class_weights == read


def test_conf_offers_every_training_field_that_is_not_searched_with_its_type_and_default() -> None:
    names = TrainingConfig.model_fields.keys() - PUBLISHED_SPACE.keys()
    assert names <= TrainingSettings.model_fields.keys()
    shared = TrainingSettings(n_seeds=2, optimizer="sgd", momentum=0.9).shared
    searched = {"learning_rate": 0.1, "epochs": 1, "weight_decay": 0.0, "warmup_steps": 0}
    expected = TrainingConfig(**searched, optimizer="sgd", momentum=0.9)
    assert TrainingConfig(**searched, **shared) == expected
    with pytest.raises(FinscaleError, match=r"training.optimizer must be .*did you mean 'ademamix'"):
        TrainingSettings.read({"optimizer": "ademamx"}, subject="training")


def test_fp16_is_refused_where_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    for device in ("cpu", "mps"):
        with pytest.raises(Fault, match=rf"precision must be one that {device} .*got 'fp16'; set .*bf16"):
            resolve_device(ExecutionConfig(device=device, precision="fp16"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert resolve_device(ExecutionConfig(precision="fp16")).type == "cuda"


def test_bf16_is_refused_where_the_device_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for found in (True, False):
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda found=found: found)
        if found:
            assert resolve_device(ExecutionConfig(device="cuda", precision="bf16")).type == "cuda"
        else:
            with pytest.raises(Fault, match=r"precision must be one that this cuda device has, got 'bf16'"):
                resolve_device(ExecutionConfig(device="cuda", precision="bf16"))


def test_bf16_on_a_cpu_without_its_instructions_runs_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for native in (False, True):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda native=native: {"avx512_bf16": native})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with executing(ExecutionConfig(precision="bf16"), cpu):
                pass
            with executing(ExecutionConfig(precision="fp32"), cpu):
                pass
        assert [str(found.message)[:23] for found in caught] == (
            [] if native else ["precision=bf16 is slow "]
        )
