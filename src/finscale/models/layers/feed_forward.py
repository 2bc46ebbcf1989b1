"""The per-token part of a block.

B batch, T tokens, D d_model.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FeedForward"]


class FeedForward(nn.Module):
    """Two linear maps with a GELU between: d_model -> d_ff -> d_model."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Map every token by itself."""
        return self.down(functional.gelu(self.up(x_BTD)))
