"""A calibration as a part of an exported model: the same arithmetic as `Calibration.apply`, in tensors.

B windows, H trained horizons, Q levels.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from finscale.training.calibration import Calibration

__all__ = ["Calibrated"]


class Calibrated(nn.Module):
    """Move quantiles by fixed offsets, and keep them in order from the middle level outwards."""

    offsets: Float[Tensor, "H Q"]

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.tensor(calibration.offsets))

    def forward(self, quantiles_BHQ: Float[Tensor, "B H Q"]) -> Float[Tensor, "B H Q"]:
        """Return the calibrated quantiles."""
        columns = list((quantiles_BHQ + self.offsets).unbind(dim=2))
        middle = len(columns) // 2
        for place in range(middle - 1, -1, -1):
            columns[place] = torch.minimum(columns[place], columns[place + 1])
        for place in range(middle + 1, len(columns)):
            columns[place] = torch.maximum(columns[place], columns[place - 1])
        return torch.stack(columns, dim=2)
