import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from finscale.models.counting import flops
from finscale.training import peak_flops
from finscale.training.config import ExecutionConfig
from finscale.training.events import EpochEnd, Event
from finscale.training.peak_flops import utilisation
from finscale.training.result import TrainingResult
from finscale.training.run_spec import RunSpec
from finscale.windows.data import WindowData

Specs = Callable[..., RunSpec]
Windows = Callable[..., WindowData]
Trains = Callable[..., TrainingResult]

BF16, FP16, FP32 = (ExecutionConfig(precision=precision) for precision in ("bf16", "fp16", "fp32"))
TF32 = ExecutionConfig(tf32=True)


@pytest.mark.parametrize(
    ("name", "execution", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", BF16, 312),
        ("NVIDIA A100-SXM4-80GB", TF32, 156),
        ("NVIDIA A100-SXM4-80GB", FP32, 19.5),
        ("NVIDIA H100 80GB HBM3", BF16, 989.5),
        ("NVIDIA H100 PCIe", BF16, 756.5),
        ("NVIDIA H200", TF32, 494.5),
        ("NVIDIA L40S", BF16, 362.05),
        ("NVIDIA GeForce RTX 4090", FP16, 165.2),
        ("Tesla T4", FP16, 65),
        ("Tesla V100-SXM2-16GB", TF32, 15.7),
    ],
)
def test_the_peak_is_the_dense_one_of_the_precision_executed(
    name: str, execution: ExecutionConfig, tera: float
) -> None:
    assert peak_flops.peak_flops(name, execution) == tera * 1e12


@pytest.mark.parametrize(
    ("name", "execution"),
    [
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", BF16),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", BF16),
        ("NVIDIA Model Of Tomorrow", FP32),
        ("Tesla V100-SXM2-16GB", BF16),
        ("cpu", FP32),
    ],
)
def test_no_peak_is_guessed(name: str, execution: ExecutionConfig) -> None:
    assert peak_flops.peak_flops(name, execution) is None


def test_two_processes_share_one_speed_over_two_peaks(
    make_data: Windows, make_spec: Specs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    data = make_data()
    spec = make_spec(data)
    one, two = (
        utilisation(
            spec,
            data,
            samples_per_s=1e6,
            execution=BF16,
            device=torch.device("cuda"),
            n_processes=n_processes,
        )
        for n_processes in (1, 2)
    )
    work = flops(spec.model, n_features=data.n_features, context_length=data.spec.context_length).training
    assert one == pytest.approx(work * 1e6 / 989.5e12)
    assert two == pytest.approx(one / 2)


def test_every_epoch_tells_its_mfu_and_the_record_keeps_it(
    make_data: Windows,
    make_spec: Specs,
    train_tiny: Trains,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peak_flops, "peak_flops", lambda name, execution: 1e9)
    data, heard = make_data(), list[Event]()
    spec = make_spec(data)
    train_tiny(spec, data, on_event=heard.append)
    work = flops(spec.model, n_features=data.n_features, context_length=data.spec.context_length).training
    epochs = [event for event in heard if isinstance(event, EpochEnd)]
    assert len(epochs) == 3
    assert [event.mfu for event in epochs] == [work * event.samples_per_s / 1e9 for event in epochs]
    kept = json.loads((tmp_path / "run" / "result.json").read_text())["curve"]
    assert [epoch["mfu"] for epoch in kept] == [event.mfu for event in epochs]


def test_the_mfu_of_a_cpu_is_unknown(make_data: Windows, make_spec: Specs, train_tiny: Trains) -> None:
    data = make_data()
    result = train_tiny(make_spec(data), data)
    assert [epoch.mfu for epoch in result.curve] == [None] * 3
