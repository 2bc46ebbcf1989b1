"""A learned token before all others, which gathers what a head reads.

B batch, T tokens, D d_model.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["ClassToken"]


class ClassToken(nn.Module):
    """One free vector, the same in every window (Devlin et al. 2019)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(d_model))

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B S D"]:
        """Return the tokens with the class token before them."""
        first_B1D = self.token.to(x_BTD.dtype).expand(x_BTD.shape[0], 1, -1)
        return torch.cat((first_B1D, x_BTD), dim=1)

    def real(self, real_BT: Bool[Tensor, "B T"]) -> Bool[Tensor, "B S"]:
        """Return which tokens are no padding, the class token before them among these."""
        return torch.cat((real_BT.new_ones(real_BT.shape[0], 1), real_BT), dim=1)
