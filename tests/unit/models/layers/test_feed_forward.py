"""The feed-forward against its formula."""

import torch
from torch import Tensor

from finscale.models.layers.feed_forward import FeedForward

B, T, D = 2, 9, 8


def tokens(seed: int = 0) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))


def test_the_feed_forward_is_two_linear_maps_with_an_exact_gelu_between() -> None:
    layer, x = FeedForward(D, 5), tokens()
    inner = x @ layer.up.weight.T + layer.up.bias
    gelu = inner * torch.distributions.Normal(0.0, 1.0).cdf(inner)
    torch.testing.assert_close(layer(x), gelu @ layer.down.weight.T + layer.down.bias)
