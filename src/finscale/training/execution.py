"""The machine's side of a run, set for its duration and put back: threads, TF32, random state, precision."""

import contextlib
import ctypes
import functools
import platform
import warnings
from collections.abc import Iterator
from typing import Final

import torch
from torch import nn

from finscale.models.layers.block import Block
from finscale.training.config import ExecutionConfig

__all__ = ["autocast", "compile_regional", "executing", "fastest_precision", "seed_device"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_HALVES: Final[dict[str, torch.dtype]] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextlib.contextmanager
def executing(execution: ExecutionConfig, device: torch.device) -> Iterator[None]:
    """Apply the execution settings; on leaving, threads, matmul precision and random states are as before."""
    if device.type == "cpu":
        _keep_freed_memory()
        if execution.precision == "bf16":
            _warn_of_slow_bf16()
    n_threads, matmul = torch.get_num_threads(), torch.get_float32_matmul_precision()
    accelerators = [] if device.type == "cpu" else [torch.accelerator.current_device_index()]
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng(devices=accelerators, device_type=kind):
        try:
            torch.set_num_threads(execution.n_threads)
            if device.type == "cuda":
                torch.set_float32_matmul_precision("high" if execution.tf32 else "highest")
            yield
        finally:
            torch.set_num_threads(n_threads)
            torch.set_float32_matmul_precision(matmul)


def seed_device(device: torch.device, seed: int) -> None:
    """Seed what dropout draws from on ``device``; on a CPU without visiting every backend."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def autocast(execution: ExecutionConfig, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context of a forward pass: half precision where asked, else nothing."""
    if execution.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_HALVES[execution.precision])


def compile_regional(model: nn.Module) -> None:
    """Have every block of ``model`` run compiled code, one and the same for all of them.

    What earlier runs of the process compiled is forgotten: torch keeps but a few shapes of a block.
    """
    torch.compiler.reset()
    for module in model.modules():
        if isinstance(module, Block):
            module.compile(dynamic=False)


@functools.cache
def _keep_freed_memory() -> None:
    """Have the C library keep, for the life of the process, what a step frees for the next one.

    glibc hands large blocks back to the system and has every page faulted in again: up to a tenth of a step.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_M_MMAP_THRESHOLD, 2**30)


def fastest_precision() -> str:
    """Return ``bf16`` where the device that ``auto`` takes has instructions for it, else ``fp32``."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if not torch.backends.mps.is_available() and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    return any(found for name, found in torch.cpu.get_capabilities().items() if "bf16" in name)


def _warn_of_slow_bf16() -> None:
    if not _cpu_has_bf16():
        said = "precision=bf16 is slow here: this CPU has no bfloat16 instructions; use fp32"
        warnings.warn(said, stacklevel=3)
