"""Cut a series into patches.

B batch, T context, F features, P patches, p patch_length, s stride, D d_model.
"""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from finscale.models.contract import without_padding

__all__ = ["PatchEmbedding", "last_bars", "last_real", "pad_end", "patches", "split_channels"]


def patches(values_BTF: Float[Tensor, "B T F"], *, patch_length: int, stride: int) -> Float[Tensor, "B P pF"]:
    """Return every patch as one vector of p x F values, bar after bar.

    Overlapping patches are a view of the input as long as ``values_BTF`` is contiguous: patch k starts
    k x stride x F values in and is patch_length x F values long.
    """
    n_features = values_BTF.shape[2]
    flat_BX = values_BTF.flatten(1)
    return flat_BX.unfold(1, patch_length * n_features, stride * n_features)


def pad_end(values_BTF: Shaped[Tensor, "B T F"], *, stride: int) -> Shaped[Tensor, "B Ts F"]:
    """Repeat the last bar ``stride`` times, so that one more patch fits (Nie et al. 2023)."""
    return torch.cat((values_BTF, values_BTF[:, -1:].expand(-1, stride, -1)), dim=1)


def split_channels(values_BTF: Float[Tensor, "B T F"]) -> Float[Tensor, "BF T 1"]:
    """Return every channel of every window as a sequence of its own, window after window."""
    return values_BTF.transpose(1, 2).flatten(0, 1)[:, :, None]


def last_bars(
    n_patches: int, *, context_length: int, patch_length: int, stride: int, pad_end: bool = False
) -> list[int]:
    """Return the place of every patch's last bar; that of a padded patch is the last bar there is.

    Examples
    --------
    >>> last_bars(4, context_length=11, patch_length=5, stride=3, pad_end=True)
    [4, 7, 10, 10]
    """
    ends = [k * stride + patch_length - 1 for k in range(n_patches)]
    return [min(end, context_length - 1) for end in ends] if pad_end else ends


def last_real(x_BTX: Shaped[Tensor, "B T X"], mask_BT: Bool[Tensor, "B T"]) -> Shaped[Tensor, "B T X"]:
    """Return at every bar what the last real bar up to it holds; zeros before the first."""
    bars_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    at_BT = torch.where(mask_BT, bars_T, 0).cummax(dim=1).values
    return without_padding(x_BTX, mask_BT).take_along_dim(at_BT[:, :, None], dim=1)


class PatchEmbedding(nn.Module):
    """Patches of all features together, mapped linearly to the model's width.

    Parameters
    ----------
    n_features, patch_length, stride, d_model : int
        F (1 where every channel is read by itself), p, s and D.
    pad_end : bool
        Whether one more patch is read, for which the last bar repeats ``stride`` times.
    """

    def __init__(
        self, *, n_features: int, patch_length: int, stride: int, d_model: int, pad_end: bool = False
    ) -> None:
        super().__init__()
        self.patch_length, self.stride, self.pads_end = patch_length, stride, pad_end
        self.linear = nn.Linear(patch_length * n_features, d_model)

    def forward(self, values_BTF: Float[Tensor, "B T F"]) -> Float[Tensor, "B P D"]:
        """Embed every patch of every window."""
        if self.pads_end:
            values_BTF = pad_end(values_BTF, stride=self.stride)
        return self.linear(patches(values_BTF, patch_length=self.patch_length, stride=self.stride))

    def real(self, mask_BT: Bool[Tensor, "B T"]) -> Bool[Tensor, "B P"]:
        """Return which patches hold a real bar; a bar that is repeated is as real as it was."""
        mask_BT1 = mask_BT[:, :, None]
        if self.pads_end:
            mask_BT1 = pad_end(mask_BT1, stride=self.stride)
        return mask_BT1.unfold(1, self.patch_length, self.stride).any(dim=3)[:, :, 0]
