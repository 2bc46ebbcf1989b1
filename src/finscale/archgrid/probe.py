"""Ask the device itself how much memory is free, and whether one training step fits.

B micro-batch, T context_length, F features.
"""

from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import torch

from finscale.archgrid.batching import BatchRequest
from finscale.models.config import PatchTSTConfig
from finscale.models.contract import Batch
from finscale.models.registry import build_model

__all__ = ["free_bytes", "free_host_bytes", "step_fits"]


def free_bytes(device: str) -> int:
    """Return the bytes that can still be allocated on ``device``."""
    kind = torch.device(device).type
    if kind == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if kind == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return free_host_bytes()


def free_host_bytes(control_group: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the free memory of the machine, or of the container where that is less (cgroup version 2)."""
    free = psutil.virtual_memory().available
    limit = control_group / "memory.max"
    if not limit.is_file() or not limit.read_text().strip().isdigit():
        return free
    used = int((control_group / "memory.current").read_text())
    return min(free, int(limit.read_text()) - used + _reclaimable(control_group / "memory.stat"))


def step_fits(request: BatchRequest, micro_batch_size: int) -> bool:
    """Run one real training step of ``micro_batch_size`` windows; False when the device runs out of memory.

    What the step allocated is given back, and the random state is left as it was.
    """
    try:
        with _own_random_state(request.device):
            _step(request, micro_batch_size)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return False
    finally:
        if request.device_type == "cuda":
            torch.cuda.empty_cache()
    return True


def _step(request: BatchRequest, micro_batch_size: int) -> None:
    """Take an optimizer step, then a second micro-batch: weights, moments, gradients, activations at once."""
    model = build_model(request.config, **request.sizes, seed=0).to(request.device).train()
    optimizer = torch.optim.AdamW(model.parameters())
    batch = _batch(request, micro_batch_size)
    for _ in range(2):
        bf16 = torch.autocast(request.device_type, torch.bfloat16, enabled=request.precision == "bf16")
        with bf16:
            loss = sum(head.float().square().mean() for head in model(batch).prediction.values())
        loss.backward()
        optimizer.step()


def _batch(request: BatchRequest, n_windows: int) -> Batch:
    shape = (n_windows, request.context_length)
    if isinstance(request.config, PatchTSTConfig):
        return Batch(values=torch.zeros(*shape, request.n_features, device=request.device))
    return Batch(tokens=torch.zeros(*shape, dtype=torch.int64, device=request.device))


def _own_random_state(device: str) -> AbstractContextManager[None]:
    found = torch.device(device)
    if found.type != "cuda":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[found.index or torch.cuda.current_device()])


def _is_out_of_memory(error: Exception) -> bool:
    """Tell a full device from a faulty model; CPU and MPS raise a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return "out of memory" in str(error) or "can't allocate memory" in str(error)


def _reclaimable(statistics: Path) -> int:
    """Bytes of file cache the kernel gives back when asked."""
    rows = dict(line.split() for line in statistics.read_text().splitlines())
    return int(rows.get("inactive_file", 0))
