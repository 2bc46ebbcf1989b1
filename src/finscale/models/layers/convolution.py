"""A short look back along the sequence, each channel by itself.

B batch, T tokens, D d_model.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CausalConvolution"]


class CausalConvolution(nn.Module):
    """Depthwise convolution over the last ``n_taps`` tokens, the present one included.

    Before the first token there are zeros.
    """

    def __init__(self, d_model: int, n_taps: int) -> None:
        super().__init__()
        self.n_taps = n_taps
        self.depthwise = nn.Conv1d(d_model, d_model, n_taps, groups=d_model)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Return the weighted sum of the last tokens at every position."""
        padded_BDT = functional.pad(x_BTD.transpose(1, 2), (self.n_taps - 1, 0))
        return self.depthwise(padded_BDT).transpose(1, 2)
