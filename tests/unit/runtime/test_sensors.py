"""NVML and powermetrics, planted: what they say is read, and what they refuse is unknown."""

import sys
import types

import pytest

from finscale.runtime import sensors
from finscale.runtime.sensors import Reading, read_machine


class PlantedError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch) -> types.SimpleNamespace:
    """Two GPUs; a test takes away what it wants to be refused."""
    gpus = [
        types.SimpleNamespace(gpu=10, used=1, total=4, celsius=55),
        types.SimpleNamespace(gpu=90, used=3, total=4, celsius=71),
    ]
    planted = types.SimpleNamespace(
        NVMLError=PlantedError,
        NVML_TEMPERATURE_GPU=0,
        n_open=0,
        gpus=gpus,
        nvmlDeviceGetCount=lambda: len(gpus),
        nvmlDeviceGetHandleByIndex=lambda i: gpus[i],
        nvmlDeviceGetUtilizationRates=lambda gpu: gpu,
        nvmlDeviceGetMemoryInfo=lambda gpu: gpu,
        nvmlDeviceGetTemperature=lambda gpu, sensor: gpu.celsius,
    )
    planted.nvmlInit = lambda: setattr(planted, "n_open", planted.n_open + 1)
    planted.nvmlShutdown = lambda: setattr(planted, "n_open", planted.n_open - 1)
    monkeypatch.setitem(sys.modules, "pynvml", planted)
    return planted


def refuse(*args):
    raise PlantedError("Not Supported")


def test_the_highest_of_all_gpus_counts_and_the_library_is_closed_again(nvml):
    found = read_machine()
    assert (found.gpu_percent, found.gpu_memory_percent, found.temperature_c) == (90, 75.0, 71)
    assert nvml.n_open == 0


def test_a_quantity_that_one_gpu_refuses_is_that_of_the_others_and_of_none_unknown(nvml):
    nvml.nvmlDeviceGetTemperature = lambda gpu, sensor: refuse() if gpu is nvml.gpus[1] else gpu.celsius
    nvml.nvmlDeviceGetUtilizationRates = refuse
    found = read_machine()
    assert (found.gpu_percent, found.gpu_memory_percent, found.temperature_c) == (None, 75.0, 55)


@pytest.mark.parametrize("celsius", [0, -40, 4000])
def test_an_impossible_temperature_is_unknown(nvml, celsius):
    for gpu in nvml.gpus:
        gpu.celsius = celsius
    assert read_machine().temperature_c is None


@pytest.mark.parametrize("absent", ["library", "driver", "devices"])
def test_without_a_gpu_its_readings_are_unknown_and_the_others_are_there(nvml, monkeypatch, absent):
    if absent == "library":
        monkeypatch.setitem(sys.modules, "pynvml", None)
    elif absent == "driver":
        nvml.nvmlInit = refuse
    else:
        nvml.gpus.clear()
    found = read_machine()
    assert found == Reading(cpu_percent=found.cpu_percent, memory_percent=found.memory_percent)
    assert 0 < (found.memory_percent or 0) < 100
    assert 0 <= (found.cpu_percent or 0) <= 100


def test_powermetrics_is_asked_only_of_root_on_a_mac(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    said = (
        "CPU Power: 43 mW\nGPU HW active residency:   2.21% (389 MHz: 2.2%)\nGPU die temperature: 54.19 C\n"
    )
    monkeypatch.setattr(sensors.subprocess, "run", lambda *a, **k: types.SimpleNamespace(stdout=said))
    assert read_machine().gpu_percent is None
    monkeypatch.setattr(sensors.sys, "platform", "darwin")
    monkeypatch.setattr(sensors.os, "geteuid", lambda: 501)
    assert read_machine().gpu_percent is None
    monkeypatch.setattr(sensors.os, "geteuid", lambda: 0)
    assert (read_machine().gpu_percent, read_machine().temperature_c) == (2.21, 54.19)
