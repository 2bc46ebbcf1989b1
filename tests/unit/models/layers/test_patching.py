"""Patches against plain slices."""

import pytest
import torch
from torch import Tensor

from finscale.models.layers.patching import PatchEmbedding, last_real, patches

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


def some_real(n_bars: int = T) -> Tensor:
    return torch.rand(40, n_bars, generator=torch.Generator().manual_seed(3)) < 0.2


@pytest.mark.parametrize("pad_end", [False, True])
@pytest.mark.parametrize(("patch_length", "stride"), [(3, 2), (4, 4), (2, 5), (9, 1)])
def test_a_patch_is_real_when_one_of_its_bars_is(patch_length: int, stride: int, pad_end: bool) -> None:
    cut = {"patch_length": patch_length, "stride": stride, "pad_end": pad_end}
    bars = [*range(T), *[T - 1] * stride] if pad_end else [*range(T)]
    starts = range(0, len(bars) - patch_length + 1, stride)
    read, mask = [bars[start : start + patch_length] for start in starts], some_real()
    real = PatchEmbedding(n_features=2, d_model=D, **cut).real(mask)
    assert real.tolist() == [
        [any(window[bar] for bar in patch) for patch in read] for window in mask.tolist()
    ]


def test_the_last_real_bar_is_looked_up_at_every_bar() -> None:
    mask, x = some_real(), torch.randint(1, 9, (40, T, 2), generator=torch.Generator().manual_seed(4))
    found = last_real(x, mask)
    for window in range(40):
        for bar in range(T):
            up_to = [place for place in range(bar + 1) if mask[window, place]]
            expected = x[window, up_to[-1]] if up_to else torch.zeros(2, dtype=torch.int64)
            assert torch.equal(found[window, bar], expected)
