"""The causal convolution against a loop."""

import pytest
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


@pytest.mark.parametrize("n_taps", [1, 3, 5])
@pytest.mark.parametrize("chunk", [1, 2, 4, T])
def test_a_convolution_goes_on_where_it_stopped(n_taps: int, chunk: int) -> None:
    convolution, x, tail, parts = CausalConvolution(D, n_taps), tokens(), None, []
    for first in range(0, T, chunk):
        out, tail = convolution.resume(x[:, first : first + chunk], tail)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, dim=1), convolution(x))
    assert tail.shape == (B, n_taps - 1, D)
    assert tail.untyped_storage().nbytes() == B * (n_taps - 1) * D * 4
