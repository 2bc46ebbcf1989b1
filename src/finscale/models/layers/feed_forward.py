"""The per-token part of a block.

B batch, T tokens, D d_model.
"""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ACTIVATIONS", "Activation", "FeedForward"]

Activation = Literal["gelu", "relu", "swiglu"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "swiglu": functional.silu,
}


class FeedForward(nn.Module):
    """Linear maps d_model -> d_ff -> d_model with an activation between.

    Parameters
    ----------
    d_model, d_ff : int
        Outer and inner width; ``d_ff`` is the inner width under every activation.
    activation : str
        ``gelu`` (exact), ``relu``, or ``swiglu``: ``down(silu(gate(x)) * up(x))``, one map more.
    bias : bool
        Whether the maps carry biases.

    Notes
    -----
    SwiGLU: Shazeer 2020, "GLU Variants Improve Transformer", equation 6, here with biases unless left out.
    """

    def __init__(
        self, d_model: int, d_ff: int, *, activation: Activation = "gelu", bias: bool = True
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.up = nn.Linear(d_model, d_ff, bias=bias)
        self.gate = nn.Linear(d_model, d_ff, bias=bias) if activation == "swiglu" else None
        self.down = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x_BTD: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Map every token by itself."""
        if self.gate is None:
            return self.down(self.activation(self.up(x_BTD)))
        return self.down(self.activation(self.gate(x_BTD)) * self.up(x_BTD))
