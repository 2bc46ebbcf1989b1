"""Map what a model has read to its prediction.

B batch, X values read (per channel where there are channels), C classes or channels, H horizon, Q levels.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from finscale.models.head_config import (
    ClassesHead,
    ForecastHead,
    HeadConfig,
    LogitsHead,
    QuantileHead,
    head_width,
)

__all__ = ["ChannelLinear", "as_prediction", "channel_map", "head_map", "numbers_of_quantiles"]

_LEAST_STEP = 1e-3
_NO_STEP = 1e-6


class ChannelLinear(nn.Module):
    """A linear map of its own for each of C channels."""

    def __init__(self, n_channels: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_channels, d_out, d_in))
        self.bias = nn.Parameter(torch.zeros(n_channels, d_out))

    def forward(self, x_BCX: Float[Tensor, "B C X"]) -> Float[Tensor, "B C Y"]:
        """Map every channel by its own matrix, all in one product; in memory channels come first."""
        maps_CXY, bias_C1Y = self.weight.transpose(1, 2), self.bias[:, None]
        return torch.baddbmm(bias_C1Y, x_BCX.transpose(0, 1), maps_CXY).transpose(0, 1)


def head_map(config: HeadConfig, *, d_read: int, n_outputs: int = 1) -> nn.Linear:
    """Return the linear map from everything that was read to every number of the prediction.

    Parameters
    ----------
    config : HeadConfig
        What is predicted.
    d_read : int
        X.
    n_outputs : int
        C of a logits head; left at 1 for the others.
    """
    return nn.Linear(d_read, head_width(config, n_outputs=n_outputs))


def channel_map(config: ForecastHead, *, d_read: int, individual: bool) -> nn.Module:
    """Return the map (B, C, X) -> (B, C, H): shared by the channels, or one for each of them."""
    if individual:
        return ChannelLinear(config.n_channels, d_read, config.horizon)
    return nn.Linear(d_read, config.horizon)


def as_prediction(config: HeadConfig, numbers_BY: Float[Tensor, "B Y"]) -> dict[str, Tensor]:
    """Lay the numbers of `head_map` out in the shape and under the name of their head."""
    if isinstance(config, LogitsHead):
        return {"logits": numbers_BY}
    if isinstance(config, ClassesHead):
        return {"classes": numbers_BY}
    if isinstance(config, QuantileHead):
        return {"quantiles": _in_order(numbers_BY.unflatten(1, (len(config.horizons), len(config.levels))))}
    if isinstance(config, ForecastHead):
        return {"forecast": numbers_BY.unflatten(1, (config.horizon, config.n_channels))}
    return {"regression": numbers_BY[:, 0]}


def _in_order(numbers_BHQ: Float[Tensor, "B H Q"]) -> Float[Tensor, "B H Q"]:
    """Read the middle level as it is and every other as a positive step away from it: none can cross."""
    middle = numbers_BHQ.shape[2] // 2
    below, centre, above = numbers_BHQ.split((middle, 1, numbers_BHQ.shape[2] - middle - 1), dim=2)
    down = centre - softplus(below).flip(2).cumsum(2).flip(2)
    return torch.cat((down, centre, centre + softplus(above).cumsum(2)), dim=2)


def numbers_of_quantiles(quantiles_HQ: Float[Tensor, "H Q"]) -> Float[Tensor, "H Q"]:
    """Return the numbers from which `as_prediction` makes these quantiles: the inverse of its steps.

    A softplus is never 0: quantiles that coincide are taken a thousandth of the outermost interval apart.
    """
    middle = quantiles_HQ.shape[1] // 2
    least = (_LEAST_STEP * (quantiles_HQ[:, -1:] - quantiles_HQ[:, :1])).clamp(min=_NO_STEP)
    steps = quantiles_HQ.diff(dim=1).maximum(least)
    steps = steps + torch.log(-torch.expm1(-steps))
    return torch.cat((steps[:, :middle], quantiles_HQ[:, middle : middle + 1], steps[:, middle:]), dim=1)
