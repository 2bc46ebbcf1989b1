"""Windows gathered on the device: B windows of T rows by one indexing operation.

B batch, T context, F features.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from finscale.models.contract import Batch
from finscale.windows.data import WindowData

__all__ = ["DeviceWindows"]


class DeviceWindows:
    """The feature matrix and targets of a `WindowData` on a device.

    Parameters
    ----------
    data : WindowData
    device : torch.device or str
    """

    def __init__(self, data: WindowData, device: torch.device | str) -> None:
        self._values = torch.tensor(data.values, device=device)
        self._targets = torch.tensor(data.targets, device=device)
        self._offsets = torch.arange(1 - data.spec.context_length, 1, device=device)

    def gather(self, origins: Int[Tensor, " B"]) -> Batch:
        """Return the contexts (B, T, F) that end at ``origins`` (rows, on the device, each >= T - 1)."""
        return Batch(values=self._values[origins[:, None] + self._offsets])

    def targets(self, origins: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Return the targets (B,) at ``origins``."""
        return self._targets[origins]
