"""Dropout whose masks are cheap to draw on a CPU."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Dropout", "dropout_layer"]

_LANES, _STATES = 4, 2**16
"""A 64-bit draw holds four 16-bit numbers, each one of 65,536."""


class Dropout(nn.Dropout):
    """Zero each number with probability ``p`` while training, and divide the others by ``1 - p``.

    Notes
    -----
    Srivastava et al. 2014. torch draws a double for every number of a CPU tensor, which took a tenth of a
    training step; here one 64-bit draw decides four numbers. A probability is then a multiple of 2**-16, and
    the scale is that of the multiple, so that the mean is kept exactly. On an accelerator it is torch's own.
    """

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the numbers that stay, scaled."""
        if self._is_torchs_own(x):
            return super().forward(x)
        return x * _kept(x, self.p)

    def added(self, x: Float[Tensor, "*shape"], branch: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return ``x + dropout(branch)``, in one pass where it can be."""
        if self._is_torchs_own(branch):
            return x + super().forward(branch)
        if x.dtype != branch.dtype:
            return x + branch * _kept(branch, self.p)
        return torch.addcmul(x, branch, _kept(branch, self.p))

    def _is_torchs_own(self, x: Tensor) -> bool:
        idle = not self.training or self.p in (0.0, 1.0)
        return idle or x.device.type != "cpu" or torch.compiler.is_compiling()


def dropout_layer(probability: float) -> nn.Module:
    """Return a dropout, or nothing at all when its probability is zero."""
    return Dropout(probability) if probability else nn.Identity()


def _kept(x: Tensor, probability: float) -> Tensor:
    """Return the scale where a number stays and 0 where it goes, in the shape and type of ``x``."""
    n_numbers, n_zeroed = x.numel(), min(round(probability * _STATES), _STATES - 1)
    lowest = torch.iinfo(torch.int64).min
    draws = torch.empty(math.ceil(n_numbers / _LANES), dtype=torch.int64).random_(lowest, None)
    lanes = draws.view(torch.int16)[:n_numbers].view(x.shape)
    stays = lanes >= n_zeroed - _STATES // 2
    return stays.to(x.dtype).mul_(_STATES / (_STATES - n_zeroed))
