"""A short look back along the sequence, each channel by itself.

B batch, T tokens, D d_model, K taps.
"""

from jaxtyping import Float
from torch import Tensor, cat, nn
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

    def resume(
        self, x_BTD: Float[Tensor, "B T D"], before_BKD: Float[Tensor, "B K D"] | None
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B K D"]]:
        """Go on with a sequence: return its next outputs, and the tokens that the next call looks back at.

        Parameters
        ----------
        x_BTD : Tensor
            The next T tokens.
        before_BKD : Tensor or None
            The ``n_taps - 1`` tokens before them, as returned by the last call; None at the beginning.
        """
        n_before = self.n_taps - 1
        if before_BKD is None:
            before_BKD = x_BTD.new_zeros(x_BTD.shape[0], n_before, x_BTD.shape[2])
        joined_BSD = cat((before_BKD, x_BTD), dim=1)
        out_BTD = self.depthwise(joined_BSD.transpose(1, 2)).transpose(1, 2)
        return out_BTD, joined_BSD[:, joined_BSD.shape[1] - n_before :].clone()
