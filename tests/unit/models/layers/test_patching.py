"""Patches against plain slices."""

import pytest
import torch
from torch import Tensor

from finscale.models.layers.patching import patches

B, T, D = 2, 9, 8


def tokens(seed: int = 0) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("patch_length", "stride"), [(3, 2), (4, 4), (2, 5), (9, 1)])
def test_patches_are_slices_of_the_series(patch_length: int, stride: int) -> None:
    x = tokens()
    expected = [x[:, k : k + patch_length].reshape(B, -1) for k in range(0, T - patch_length + 1, stride)]
    assert torch.equal(patches(x, patch_length=patch_length, stride=stride), torch.stack(expected, dim=1))


def test_patches_of_contiguous_values_are_a_view() -> None:
    x = tokens()
    assert patches(x, patch_length=4, stride=2).data_ptr() == x.data_ptr()
