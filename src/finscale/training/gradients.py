"""The gradient of one effective batch, whatever the micro-batch.

G windows in the group of one optimizer step.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from finscale.models.contract import Batch, ModelOutput
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
    """
    losses = [
        _backward(forward, windows, micro, kind=kind, loss=loss, n_group=len(origins), precision=precision)
        for micro in origins.split(micro_batch_size)
    ]
    return sum(losses[1:], start=losses[0])


def _backward(
    forward: Callable[[Batch], ModelOutput],
    windows: WindowSource,
    origins: Tensor,
    *,
    kind: TaskKind,
    loss: SummedLoss,
    n_group: int,
    precision: Callable[[], AbstractContextManager[object]],
) -> Tensor:
    targets = windows.targets(origins)
    with precision():
        answer = answer_of(forward(windows.gather(origins)), kind, targets)
    summed = loss(answer.to(targets.dtype), targets)
    (summed / n_group).backward()
    return summed.detach()
