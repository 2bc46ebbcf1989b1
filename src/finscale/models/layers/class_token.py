"""A learned token before all others, which gathers what a head reads.

B batch, T tokens, D d_model.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["ClassToken"]


class ClassToken(nn.Module):
    """One free vector, the same in every window (Devlin et al. 2019)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(d_model))

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B S D"]:
        """Return the tokens with the class token before them."""
        first_B1D = self.token.to(x_BTD.dtype).expand(len(x_BTD), 1, -1)
        return torch.cat((first_B1D, x_BTD), dim=1)
