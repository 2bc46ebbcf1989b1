"""Let a branch replace what stands in the residual stream, rather than add to it.

B batch, T tokens, D d_model.
"""

from jaxtyping import Float
from torch import Tensor, nn

from finscale.models.layers.norms import layer_norm

__all__ = ["LiteGate"]


class LiteGate(nn.Module):
    """The step of a lite gate unit, ``x + sigmoid(W x + b) * (norm(branch) - x)``.

    Notes
    -----
    Gates in the place of residual sums: Parisotto et al. 2020, "Stabilizing Transformers for Reinforcement
    Learning", section 3.2; here what the gate lets in also takes the place of what was there.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, d_model)
        self.norm = layer_norm(d_model)

    def forward(
        self, x_BTD: Float[Tensor, "B T D"], branch_BTD: Float[Tensor, "B T D"]
    ) -> Float[Tensor, "B T D"]:
        """Return what is added to ``x_BTD``."""
        return self.linear(x_BTD).sigmoid() * (self.norm(branch_BTD) - x_BTD)
