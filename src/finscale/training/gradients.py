"""The gradient of one effective batch, whatever the micro-batch.

G windows in the group of one optimizer step.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from finscale.models.contract import Batch, ModelOutput
from finscale.training.distributed import ALONE, Processes
from finscale.training.losses import SummedLoss, answer_of
from finscale.windows.tasks import TaskKind

__all__ = ["WindowSource", "accumulate_gradients"]


class WindowSource(Protocol):
    """What hands out windows: `finscale.windows.batches.DeviceWindows`."""

    def gather(self, origins: Tensor) -> Batch:
        """Return the contexts that end at ``origins``."""

    def targets(self, origins: Tensor) -> Tensor:
        """Return the targets at ``origins``."""


def accumulate_gradients(
    forward: Callable[[Batch], ModelOutput],
    windows: WindowSource,
    origins: Int[Tensor, " G"],
    *,
    kind: TaskKind,
    loss: SummedLoss,
    micro_batch_size: int,
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
    processes: Processes = ALONE,
) -> Float[Tensor, ""]:
    """Add the gradient of the mean loss over ``origins`` and return the summed loss, on the device.

    Every micro-batch counts for the windows it holds, so a short last one, or a short last group, gives
    the gradient of the whole group at once to float tolerance.

    Parameters
    ----------
    forward : callable
        The model, compiled or not.
    windows : WindowSource
    origins : Tensor
        Rows of the group.
    kind, loss
        Of the task, see `finscale.training.losses`.
    micro_batch_size : int
        Windows per forward pass.
    precision : callable
        Makes the context of a forward pass.
    scale : callable
        Enlarges a loss before its backward pass, and with it the gradient; the sum returned is plain.
    processes : Processes
        Among which the group is shared out: each adds up, and returns, the loss of its own windows.
    """
    backward = partial(
        _backward,
        forward,
        windows,
        kind=kind,
        loss=loss,
        stand_in=origins[:1],
        n_mean=len(origins) / processes.n_processes,
        precision=precision,
        scale=scale,
    )
    *before, last = processes.micro_batches(origins, micro_batch_size)
    with processes.holding_back(forward):
        losses = [backward(micro) for micro in before]
    losses.append(backward(last))
    return sum(losses[1:], start=losses[0])


def _backward(
    forward: Callable[[Batch], ModelOutput],
    windows: WindowSource,
    origins: Tensor,
    *,
    kind: TaskKind,
    loss: SummedLoss,
    stand_in: Tensor,
    n_mean: float,
    precision: Callable[[], AbstractContextManager[object]],
    scale: Callable[[Tensor], Tensor],
) -> Tensor:
    shown = origins if len(origins) else stand_in
    targets = windows.targets(shown)
    with precision():
        answer = answer_of(forward(windows.gather(shown)), kind, targets)
    summed = loss(answer.to(torch.promote_types(answer.dtype, torch.float32)), targets)
    if not len(origins):
        summed = 0 * summed
    scale(summed / n_mean).backward()
    return summed.detach()
