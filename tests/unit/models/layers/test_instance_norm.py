"""Instance normalisation: unit moments per window, and an inverse that is exact."""

import pytest
import torch
from torch import Tensor

from finscale.models.layers.instance_norm import InstanceNorm

B, T, F = 3, 50, 4


def values(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([1.0, 100.0, 0.01, 5.0], dtype=torch.float64)
    return torch.randn(B, T, F, dtype=torch.float64, generator=generator) * scale + 7 * scale


def norm_of(*, affine: bool) -> InstanceNorm:
    norm = InstanceNorm(F, affine=affine).double()
    for parameter in norm.parameters():
        parameter.data += torch.rand(F, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return norm


def test_every_window_and_feature_gets_mean_zero_and_deviation_one() -> None:
    normed, _ = norm_of(affine=False)(values())
    assert normed.mean(dim=1).abs().max() < 1e-12
    plain = values()
    expected = plain.std(dim=1, correction=0) / (plain.var(dim=1, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(normed.std(dim=1, correction=0), expected)


@pytest.mark.parametrize("affine", [False, True])
def test_the_inverse_is_exact(affine: bool) -> None:
    norm, x = norm_of(affine=affine), values()
    normed, moments = norm(x)
    torch.testing.assert_close(norm.inverse(normed, moments, range(F)), x, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("affine", [False, True])
def test_the_inverse_of_some_columns_uses_their_own_moments(affine: bool) -> None:
    norm, x = norm_of(affine=affine), values()
    normed, moments = norm(x)
    torch.testing.assert_close(norm.inverse(normed[:, :7, [2, 0]], moments, (2, 0)), x[:, :7, [2, 0]])


def test_windows_that_differ_in_level_and_scale_alone_look_the_same() -> None:
    norm, x = norm_of(affine=True), values()
    x = x[:, :, [0, 1, 3]].repeat(1, 1, 2)[:, :, :F]
    torch.testing.assert_close(norm(x)[0], norm(300 * x - 9)[0], atol=1e-4, rtol=1e-4)


def test_a_flat_window_becomes_zero_and_comes_back() -> None:
    norm, flat = norm_of(affine=False), torch.full((B, T, F), 3.0, dtype=torch.float64)
    normed, moments = norm(flat)
    assert not normed.any()
    assert torch.equal(norm.inverse(normed, moments, range(F)), flat)


def test_statistics_are_returned_and_never_kept() -> None:
    norm = InstanceNorm(F, affine=False)
    norm(values().float())
    assert not norm.state_dict()
    assert not {name for name, kept in vars(norm).items() if isinstance(kept, Tensor)}


@pytest.mark.parametrize("affine", [False, True])
def test_padding_counts_for_nothing_and_comes_back_as_zero(affine: bool) -> None:
    norm, x = norm_of(affine=affine), values()
    real = torch.rand(B, T, generator=torch.Generator().manual_seed(2)) < torch.tensor([[0.9], [0.5], [0.05]])
    real[2, 3] = True
    normed, moments = norm(x.masked_fill(~real[:, :, None], torch.nan), real)
    assert not normed[~real].any()
    for window in range(B):
        alone, expected = norm(x[window : window + 1, real[window]])
        torch.testing.assert_close(normed[window, real[window]], alone[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(moments.mean[window], expected.mean[0])
        torch.testing.assert_close(moments.scale[window], expected.scale[0])


def test_only_the_affine_form_learns() -> None:
    assert not list(InstanceNorm(F, affine=False).parameters())
    assert sum(p.numel() for p in InstanceNorm(F, affine=True).parameters()) == 2 * F
