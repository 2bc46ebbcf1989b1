"""Cut a series into patches.

B batch, T context, F features, P patches, p patch_length, D d_model.
"""

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["PatchEmbedding", "patches"]


def patches(values_BTF: Float[Tensor, "B T F"], *, patch_length: int, stride: int) -> Float[Tensor, "B P pF"]:
    """Return every patch as one vector of p x F values, bar after bar.

    Overlapping patches are a view of the input as long as ``values_BTF`` is contiguous: patch k starts
    k x stride x F values in and is patch_length x F values long.
    """
    n_features = values_BTF.shape[2]
    flat_BX = values_BTF.flatten(1)
    return flat_BX.unfold(1, patch_length * n_features, stride * n_features)


class PatchEmbedding(nn.Module):
    """Patches of all features together, mapped linearly to the model's width."""

    def __init__(self, *, n_features: int, patch_length: int, stride: int, d_model: int) -> None:
        super().__init__()
        self.patch_length, self.stride = patch_length, stride
        self.linear = nn.Linear(patch_length * n_features, d_model)

    def forward(self, values_BTF: Float[Tensor, "B T F"]) -> Float[Tensor, "B P D"]:
        """Embed every patch of every window."""
        return self.linear(patches(values_BTF, patch_length=self.patch_length, stride=self.stride))
