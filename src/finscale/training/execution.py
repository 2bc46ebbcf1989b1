"""The machine's side of a run, set for its duration and put back: threads, TF32, random state, precision."""

import contextlib
from collections.abc import Iterator

import torch

from finscale.training.config import ExecutionConfig

__all__ = ["autocast", "executing", "seed_device"]


@contextlib.contextmanager
def executing(execution: ExecutionConfig, device: torch.device) -> Iterator[None]:
    """Apply the execution settings; on leaving, threads, matmul precision and random states are as before."""
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
    """Return the context of a forward pass: bfloat16 where asked, else nothing."""
    if execution.precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
