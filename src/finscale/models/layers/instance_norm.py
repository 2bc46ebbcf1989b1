"""Standardise every window by its own moments, and put a forecast back on the window's scale.

B batch, T context, F features, H horizon, C forecast channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from finscale.models.contract import without_padding

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

    def forward(
        self, values_BTF: Float[Tensor, "B T F"], mask_BT: Bool[Tensor, "B T"] | None = None
    ) -> tuple[Float[Tensor, "B T F"], Moments]:
        """Return the standardised windows and the moments that undo it.

        Where ``mask_BT`` is False a bar is padding: it counts for nothing in the moments and comes back as 0.
        A window of padding alone has mean 0 and the smallest scale there is.
        """
        values_BTF = without_padding(values_BTF, mask_BT)
        if mask_BT is None:
            variance_B1F, mean_B1F = torch.var_mean(values_BTF, dim=1, correction=0, keepdim=True)
        else:
            variance_B1F, mean_B1F = _var_mean_of_real(values_BTF, mask_BT)
        moments = Moments(mean_B1F, (variance_B1F + _EPS).sqrt())
        normed_BTF = (values_BTF - moments.mean) / moments.scale
        if self.weight is not None and self.bias is not None:
            normed_BTF = normed_BTF * self.weight + self.bias
        return without_padding(normed_BTF, mask_BT), moments

    def inverse(
        self, forecast_BHC: Float[Tensor, "B H C"], moments: Moments, columns: Sequence[int]
    ) -> Float[Tensor, "B H C"]:
        """Return a forecast of the features ``columns`` on the scale of their windows."""
        at = list(columns)
        if self.weight is not None and self.bias is not None:
            forecast_BHC = (forecast_BHC - self.bias[at]) / self.weight[at]
        return forecast_BHC * moments.scale[:, :, at] + moments.mean[:, :, at]


def _var_mean_of_real(
    values_BTF: Float[Tensor, "B T F"], mask_BT: Bool[Tensor, "B T"]
) -> tuple[Tensor, Tensor]:
    """Return both moments over real bars; padding holds zeros."""
    n_B11 = mask_BT.sum(dim=1).clamp(min=1)[:, None, None]
    mean_B1F = values_BTF.sum(dim=1, keepdim=True) / n_B11
    centred_BTF = without_padding(values_BTF - mean_B1F, mask_BT)
    return centred_BTF.square().sum(dim=1, keepdim=True) / n_B11, mean_B1F
