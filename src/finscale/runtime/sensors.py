"""Read the machine once: psutil, NVML where ``nvidia-ml-py`` is installed, powermetrics for root on macOS.

What cannot be read is None, which is *unknown*: no driver, no permission and no sensor all look alike here.
"""

import contextlib
import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import psutil

__all__ = ["Reading", "Sensors", "read_machine"]

_PLAUSIBLE_C = (1.0, 150.0)
_POWERMETRICS = ("powermetrics", "--samplers", "all", "-n", "1", "-i", "200")
_SAID = {
    "gpu_percent": re.compile(r"GPU (?:HW )?active residency:\s*([\d.]+)%"),
    "temperature_c": re.compile(r"GPU die temperature:\s*([\d.]+) C"),
}


@dataclass(frozen=True)
class Reading:
    """The machine at one instant; None is unknown.

    Attributes
    ----------
    cpu_percent, memory_percent : float or None
        Load of all cores, and share of the memory in use.
    gpu_percent, gpu_memory_percent : float or None
        Of the GPU that is highest.
    temperature_c : float or None
        Of the hottest GPU, in degrees Celsius. CPUs run hot by design and throttle themselves.
    """

    cpu_percent: float | None = None
    memory_percent: float | None = None
    gpu_percent: float | None = None
    gpu_memory_percent: float | None = None
    temperature_c: float | None = None


Sensors = Callable[[], Reading]


def read_machine() -> Reading:
    """Read every sensor there is; takes a tenth of a second, over which the load of the CPU is measured."""
    found = {**_powermetrics(), **_nvml()}
    return Reading(
        cpu_percent=_tried(lambda: psutil.cpu_percent(interval=0.1)),
        memory_percent=_tried(lambda: psutil.virtual_memory().percent),
        gpu_percent=found.get("gpu_percent"),
        gpu_memory_percent=found.get("gpu_memory_percent"),
        temperature_c=_plausible(found.get("temperature_c")),
    )


def _nvml() -> dict[str, float | None]:
    with contextlib.suppress(ImportError), contextlib.ExitStack() as stack:
        import pynvml as nvml

        try:
            nvml.nvmlInit()
            stack.callback(nvml.nvmlShutdown)
            gpus = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError:
            return {}
        return {
            "gpu_percent": _highest(lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu, gpus),
            "gpu_memory_percent": _highest(lambda gpu: _share(nvml.nvmlDeviceGetMemoryInfo(gpu)), gpus),
            "temperature_c": _highest(
                lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU), gpus
            ),
        }
    return {}


def _share(memory: Any) -> float:
    return 100.0 * memory.used / memory.total


def _powermetrics() -> dict[str, float | None]:
    if sys.platform != "darwin" or os.geteuid() != 0:
        return {}
    run = functools.partial(subprocess.run, capture_output=True, check=False, text=True, timeout=10)
    said = _tried(lambda: run(_POWERMETRICS).stdout)
    found = {name: pattern.search(said or "") for name, pattern in _SAID.items()}
    return {name: float(match[1]) for name, match in found.items() if match}


def _highest(read: Callable[[Any], float], gpus: Iterable[Any]) -> float | None:
    values = [_tried(functools.partial(read, gpu)) for gpu in gpus]
    return max((value for value in values if value is not None), default=None)


def _plausible(temperature_c: float | None) -> float | None:
    """Drivers of sleeping or virtual devices say 0, or nonsense."""
    low, high = _PLAUSIBLE_C
    return temperature_c if temperature_c is not None and low <= temperature_c <= high else None


def _tried(read: Callable[[], Any]) -> Any:
    try:
        return read()
    # whatever a driver raises, and each has its own, its sensor is unknown
    except Exception:
        return None
