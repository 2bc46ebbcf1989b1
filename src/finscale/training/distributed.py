"""One run on several devices: one process each, started by torchrun and joined by PyTorch's own means.

G windows in the group of an optimizer step, W processes.

Each process takes G / W windows of a group, some one more where W does not divide G, and divides its summed
loss by G / W, where one process would divide by G. PyTorch averages gradients over processes:
``1/W sum_r (W/G sum_{i in share r} dl_i) = 1/G sum_i dl_i``, the gradient of one process whatever the shares.
A process that has no window left runs one of the group's with weight zero, because all have to call the
model equally often. `finscale.training.__main__` is the command.
"""

import atexit
import contextlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from finscale.core.errors import Fault
from finscale.models.layers.block import Block
from finscale.training.config import Strategy

__all__ = ["ALONE", "Processes", "meet", "piece_of", "whole"]

_BACKENDS: Final[dict[str, str]] = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""By kind of device. Votes and forecasts lie on the host: they never make it wait for a device."""

_GROUPS: Final[list[object]] = []
"""Keeps the group alive: freed by a DistributedDataParallel, it waits for threads that wait for Python."""

_REMEDY = "start it with: torchrun --nproc-per-node 2 -m finscale.training SPEC WINDOWS FOLDER"


@dataclass(frozen=True)
class Processes:
    """The processes that train one run together, as one of them sees them; by default it is alone.

    Parameters
    ----------
    strategy : str
        ``one``, ``ddp`` (every process holds the model) or ``fsdp`` (its parameters are cut up among them).
    rank, n_processes : int
        Number of this process, from 0, and how many there are.
    """

    strategy: Strategy = "one"
    rank: int = 0
    n_processes: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and tells events."""
        return self.rank == 0

    @property
    def stream(self) -> tuple[int, ...]:
        """What tells this process's random draws from those of the others; nothing where it leads."""
        return (self.rank,) if self.rank else ()

    def largest_share(self, n_windows: int) -> int:
        """Return how many of ``n_windows`` the process with most of them gets."""
        return -(-n_windows // self.n_processes)

    def micro_batches(self, origins: Int[Tensor, " G"], size: int) -> list[Tensor]:
        """Return this process's share of a group, cut up; all have equally many parts, some empty."""
        share = origins if self.n_processes == 1 else origins.tensor_split(self.n_processes)[self.rank]
        parts = list(share.split(size))
        n_parts = -(-self.largest_share(len(origins)) // size)
        return parts + [share[:0]] * (n_parts - len(parts))

    def place(self, model: nn.Module) -> nn.Module:
        """Return what to call for a forward pass whose gradients are averaged over all processes.

        Under ``fsdp`` that is ``model`` itself, whose parameters are cut up in place, block by block.

        Raises
        ------
        Fault
            When the model normalises over a batch, of which each process would see but its share.
        """
        if self.strategy == "one":
            return model
        if any(isinstance(module, _BatchNorm) for module in model.modules()):
            rule = f"be layer_norm or rms_norm where strategy={self.strategy}"
            raise Fault("the model's norm", rule, "batch_norm", "set strategy=one")
        if self.strategy == "ddp":
            return DistributedDataParallel(model, forward_sync_buffers=False)
        return _cut_up(model)

    def holding_back(self, forward: Any) -> contextlib.AbstractContextManager[object]:
        """Return the context of a backward pass that another follows before the step: nothing is sent yet.

        Under ``fsdp`` gradients are sent at once, for whole ones would have to be kept.
        """
        return forward.no_sync() if self.strategy == "ddp" else contextlib.nullcontext()

    def any(self, vote: bool) -> bool:
        """Whether any process votes yes; each waits for all others."""
        if self.n_processes == 1:
            return vote
        votes = torch.tensor(vote, dtype=torch.int32)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return bool(votes)

    def wait(self) -> None:
        """Wait until every process has come this far."""
        self.any(False)

    def total(self, number: Tensor) -> float:
        """Return the sum of a number over all processes, the same on each."""
        if self.n_processes == 1:
            return float(number)
        summed = number.detach().clone()
        dist.all_reduce(summed)
        return float(summed)

    def agree(self, subject: str, number: int, *, remedy: str) -> None:
        """Raise a `Fault` on every process where they do not all hold the same number."""
        ends = torch.tensor([number, -number])
        if self.n_processes > 1:
            dist.all_reduce(ends, dist.ReduceOp.MAX)
        highest, lowest = int(ends[0]), -int(ends[1])
        if highest != lowest:
            raise Fault(subject, "be the same in all processes", f"{lowest} to {highest}", remedy)

    def share_out(
        self, work: Callable[[int], NDArray[np.float64]], sizes: Sequence[int]
    ) -> list[NDArray[np.float64]]:
        """Return ``[work(0), work(1), ...]``, each done by one process and known to all.

        Parameters
        ----------
        work : callable
            Called equally often by every process: by some for a second time with the last number.
        sizes : sequence of int
            Length of each answer.
        """
        if self.n_processes == 1:
            return [work(number) for number in range(len(sizes))]
        last, ends = len(sizes) - 1, np.cumsum(sizes)
        turns = range(self.rank, self.n_processes * self.largest_share(len(sizes)), self.n_processes)
        done = {turn: work(min(turn, last)) for turn in turns}
        answers = np.zeros((ends[-1], *done[self.rank].shape[1:]))
        for turn in set(done) & set(range(len(sizes))):
            answers[ends[turn] - sizes[turn] : ends[turn]] = done[turn]
        dist.all_reduce(torch.from_numpy(answers))
        return np.split(answers, ends[:-1])


ALONE: Final = Processes()
"""One process on one device."""


def _cut_up(model: nn.Module) -> nn.Module:
    """Shard every block, then the rest; after a forward pass no parameter stays whole, nor the root's."""
    # Of an answer that is a view, which nobody here writes into.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    for module in (*filter(lambda module: isinstance(module, Block), model.modules()), model):
        fully_shard(module, reshard_after_forward=True)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)
    return model


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor: one in pieces is put together on the host of every process, together."""
    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor


def piece_of(tensor: Tensor, like: Tensor) -> Tensor:
    """Return what this process holds of a whole tensor where ``like`` is cut up; undoes `whole`."""
    if not isinstance(like, DTensor) or tensor.ndim == 0:
        return tensor
    mesh, placements = like.device_mesh, like.placements
    return distribute_tensor(tensor.to(like.device), mesh, placements, src_data_rank=None)


def meet(strategy: Strategy, device: torch.device) -> Processes:
    """Meet the other processes of a run; a group that is made here lasts as long as this process.

    On CUDA the process takes the device of its local rank.

    Raises
    ------
    Fault
        When the strategy does not fit the device, or how this process was started.
    """
    if strategy == "one":
        _require_one_process()
        return ALONE
    if not dist.is_initialized():
        _begin_group(strategy, device)
    return Processes(strategy, dist.get_rank(), dist.get_world_size())


def _require_one_process() -> None:
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if n_processes > 1:
        rule = f"be ddp or fsdp where {n_processes} processes were started"
        raise Fault("execution.strategy", rule, "one", "start one process")


def _begin_group(strategy: Strategy, device: torch.device) -> None:
    if device.type not in _BACKENDS:
        rule = f"be one on {device.type}"
        raise Fault("execution.strategy", rule, strategy, "set execution.strategy=one or device=cpu")
    missing = [
        name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
    ]
    if missing:
        raise Fault(
            "execution.strategy", "be one in a process that torchrun has not started", strategy, _REMEDY
        )
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(_BACKENDS[device.type])
    _GROUPS.append(dist.group.WORLD)
    atexit.register(dist.destroy_process_group)
