"""The gradient of one effective batch, whatever the micro-batch.

G windows in the group of one optimizer step.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from finscale.models.contract import Batch, ModelOutput

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
    micro_batch_size: int,
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Float[Tensor, ""]:
    """Add the gradient of the mean loss over ``origins`` and return the summed loss, on the device.

    Every micro-batch counts for the windows it holds, so a short last one, or a short last group, gives
    the gradient of the whole group at once to float tolerance.

    Parameters
    ----------
    forward : callable
        The model, compiled or not; its ``logits`` are (B, 1).
    windows : WindowSource
    origins : Tensor
        Rows of the group.
    micro_batch_size : int
        Windows per forward pass.
    precision : callable
        Makes the context of a forward pass.
    """
    losses = [
        _backward(forward, windows, micro, n_group=len(origins), precision=precision)
        for micro in origins.split(micro_batch_size)
    ]
    return sum(losses[1:], start=losses[0])


def _backward(
    forward: Callable[[Batch], ModelOutput],
    windows: WindowSource,
    origins: Tensor,
    *,
    n_group: int,
    precision: Callable[[], AbstractContextManager[object]],
) -> Tensor:
    targets = windows.targets(origins)
    with precision():
        logits = forward(windows.gather(origins)).prediction["logits"][:, 0]
    loss = binary_cross_entropy_with_logits(logits.to(targets.dtype), targets, reduction="sum")
    (loss / n_group).backward()
    return loss.detach()
