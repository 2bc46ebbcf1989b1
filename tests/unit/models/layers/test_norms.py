"""Norms against their formulas."""

import pytest
import torch
from torch import Tensor

from finscale.models.layers.norms import NORMS, build_norm

B, T, D = 3, 5, 4


def tokens(seed: int = 0) -> Tensor:
    return 2 + 3 * torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))


def scaled(norm: torch.nn.Module) -> torch.nn.Module:
    for index, parameter in enumerate(norm.parameters()):
        parameter.data = torch.linspace(0.5, 1.5, D) + index
    return norm


def test_layer_norm_centres_and_scales_a_token_over_its_width() -> None:
    norm, x = scaled(build_norm("layer_norm", D)), tokens()
    centred = x - x.mean(2, keepdim=True)
    expected = centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), expected)


def test_rms_norm_scales_a_token_and_does_not_centre_it() -> None:
    norm, x = scaled(build_norm("rms_norm", D)), tokens()
    torch.testing.assert_close(norm(x), x / (x.square().mean(2, keepdim=True) + 1e-5).sqrt() * norm.weight)
    assert [name for name, _ in norm.named_parameters()] == ["weight"]


def test_batch_norm_takes_the_moments_of_a_channel_over_all_tokens() -> None:
    norm, x = scaled(build_norm("batch_norm", D)), tokens()
    mean, spread = x.mean((0, 1)), (x.var((0, 1), correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), (x - mean) / spread * norm.weight + norm.bias)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)


def test_batch_norm_reads_its_running_moments_in_evaluation() -> None:
    norm, x = build_norm("batch_norm", D), tokens()
    for _ in range(200):
        norm(x)
    alone = norm.eval()(x[:1])
    torch.testing.assert_close(alone, norm(x)[:1])
    mean, spread = x.mean((0, 1)), (x.var((0, 1), correction=1) + 1e-5).sqrt()
    torch.testing.assert_close(alone, (x[:1] - mean) / spread, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_keeps_the_shape_of_its_tokens(name: str) -> None:
    assert build_norm(name, D)(tokens()).shape == (B, T, D)
