"""The causal convolution against a loop."""

import torch
from torch import Tensor

from finscale.models.layers.convolution import CausalConvolution

B, T, D = 2, 9, 8


def tokens(seed: int = 0) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))


def test_the_convolution_is_the_weighted_sum_of_the_last_tokens() -> None:
    convolution, x = CausalConvolution(D, 3), tokens()
    weight, bias = convolution.depthwise.weight[:, 0], convolution.depthwise.bias
    out = convolution(x)
    for t in range(T):
        taps = [weight[:, 2 - back] * x[:, t - back] for back in range(3) if back <= t]
        torch.testing.assert_close(out[:, t], sum(taps) + bias)
