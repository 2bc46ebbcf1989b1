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


def test_relu_keeps_what_is_positive() -> None:
    layer, x = FeedForward(D, 5, activation="relu"), tokens()
    inner = x @ layer.up.weight.T + layer.up.bias
    expected = (inner * (inner > 0)) @ layer.down.weight.T + layer.down.bias
    torch.testing.assert_close(layer(x), expected)


def test_swiglu_gates_one_map_by_the_other() -> None:
    layer, x = FeedForward(D, 5, activation="swiglu"), tokens()
    gate, up = (x @ each.weight.T + each.bias for each in (layer.gate, layer.up))
    expected = (gate / (1 + torch.exp(-gate)) * up) @ layer.down.weight.T + layer.down.bias
    torch.testing.assert_close(layer(x), expected)


def test_without_biases_the_maps_alone_remain() -> None:
    layer = FeedForward(D, 5, activation="swiglu", bias=False)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 3 * D * 5
