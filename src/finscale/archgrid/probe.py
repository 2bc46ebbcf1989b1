"""Ask the device itself how much memory is free, and whether one training step fits.

B micro-batch, T context_length, F features.
"""

import functools
import math
import resource
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import torch
from torch import nn

from finscale.archgrid.batching import BatchRequest
from finscale.archgrid.out_of_memory import is_out_of_memory
from finscale.models.contract import Batch
from finscale.models.layers.block import BlockStack
from finscale.models.position_config import CALENDAR_FIELDS
from finscale.models.registry import build_model

__all__ = ["checkpoint_activations", "free_bytes", "free_host_bytes", "step_fits"]


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
    """Return the free memory of the machine, or what is left to the container or process where that is less.

    A container is one of cgroup version 2; a process is limited by ``ulimit -v``.
    """
    free = int(min(psutil.virtual_memory().available, _left_to_process()))
    limit = control_group / "memory.max"
    if not limit.is_file() or not limit.read_text().strip().isdigit():
        return free
    used = int((control_group / "memory.current").read_text())
    return min(free, int(limit.read_text()) - used + _reclaimable(control_group / "memory.stat"))


def step_fits(
    request: BatchRequest, micro_batch_size: int, *, activation_checkpointing: bool = False
) -> bool:
    """Run one real training step of ``micro_batch_size`` windows; False when the device runs out of memory.

    What the step allocated is given back, and the random state is left as it was.
    """
    try:
        with _own_random_state(request.device):
            _step(request, micro_batch_size, activation_checkpointing)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        if request.device_type == "cuda":
            torch.cuda.empty_cache()
    return True


def _step(request: BatchRequest, micro_batch_size: int, activation_checkpointing: bool) -> None:
    """Take an optimizer step, then a second micro-batch: weights, moments, gradients, activations at once."""
    model = build_model(request.config, **request.sizes, seed=0).to(request.device).train()
    checkpoint_activations(model, activation_checkpointing)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)  # as training does: no temporaries
    batch = _batch(request, micro_batch_size)
    for _ in range(2):
        half = torch.float16 if request.precision == "fp16" else torch.bfloat16
        with torch.autocast(request.device_type, half, enabled=request.precision != "fp32"):
            loss = sum(head.float().square().mean() for head in model(batch).prediction.values())
        loss.backward()
        optimizer.step()


def checkpoint_activations(model: nn.Module, active: bool) -> None:
    """Have every stack of blocks compute its blocks again in the backward pass, or stop doing so."""
    for module in model.modules():
        if isinstance(module, BlockStack):
            module.checkpoint = active


def _batch(request: BatchRequest, n_windows: int) -> Batch:
    """Return windows of zeros with everything that the model reads."""
    config, shape = request.config, (n_windows, request.context_length)
    integers = functools.partial(torch.ones, dtype=torch.int64, device=request.device)
    if getattr(config, "vocab_size", None):
        return Batch(tokens=0 * integers(*shape))
    values = torch.zeros(*shape, request.n_features, device=request.device)
    kind = config.positions.kind if hasattr(config, "positions") else "none"
    calendar = integers(*shape, len(CALENDAR_FIELDS)) if kind in ("calendar", "time2vec") else None
    n_categories = len(getattr(config, "categories", ()))
    categories = 0 * integers(*shape, n_categories) if n_categories else None
    return Batch(values=values, calendar=calendar, categories=categories)


def _own_random_state(device: str) -> AbstractContextManager[None]:
    found = torch.device(device)
    if found.type != "cuda":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[found.index or torch.cuda.current_device()])


def _left_to_process() -> float:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if limit == resource.RLIM_INFINITY else limit - psutil.Process().memory_info().vms


def _reclaimable(statistics: Path) -> int:
    """Bytes of file cache the kernel gives back when asked."""
    rows = dict(line.split() for line in statistics.read_text().splitlines())
    return int(rows.get("inactive_file", 0))
