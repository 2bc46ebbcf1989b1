"""Standardise every window by its own moments, and put a forecast back on the window's scale.

B batch, T context, F features, H horizon, C forecast channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["InstanceNorm", "Moments"]

_EPS = 1e-5


class Moments(NamedTuple):
    """Mean and standard deviation of every window and feature, both (B, 1, F)."""

    mean: Tensor
    scale: Tensor


class InstanceNorm(nn.Module):
    """Reversible instance normalisation (Kim et al. 2022, RevIN), statistics per window and feature.

    Parameters
    ----------
    n_features : int
        F.
    affine : bool
        Whether a learned weight and bias per feature follow.

    Notes
    -----
    The published inverse divides by weight + eps**2; ours divides by the weight, so that it is exact.
    """

    def __init__(self, n_features: int, *, affine: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(n_features)) if affine else None

    def forward(self, values_BTF: Float[Tensor, "B T F"]) -> tuple[Float[Tensor, "B T F"], Moments]:
        """Return the standardised windows and the moments that undo it."""
        variance_B1F, mean_B1F = torch.var_mean(values_BTF, dim=1, correction=0, keepdim=True)
        moments = Moments(mean_B1F, (variance_B1F + _EPS).sqrt())
        normed_BTF = (values_BTF - moments.mean) / moments.scale
        if self.weight is not None and self.bias is not None:
            normed_BTF = normed_BTF * self.weight + self.bias
        return normed_BTF, moments

    def inverse(
        self, forecast_BHC: Float[Tensor, "B H C"], moments: Moments, columns: Sequence[int]
    ) -> Float[Tensor, "B H C"]:
        """Return a forecast of the features ``columns`` on the scale of their windows."""
        at = list(columns)
        if self.weight is not None and self.bias is not None:
            forecast_BHC = (forecast_BHC - self.bias[at]) / self.weight[at]
        return forecast_BHC * moments.scale[:, :, at] + moments.mean[:, :, at]
