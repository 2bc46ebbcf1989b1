"""Codes that depend on a position alone and are added to the token.

B batch, T tokens, D d_model, P = D / 2 pairs, S slots of the learned table.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from finscale.core.errors import Fault
from finscale.models.layers.positions.contract import Positions, steps
from finscale.models.layers.positions.rotary import Tables

__all__ = ["LearnedPositions", "WavePositions"]


class LearnedPositions(Positions):
    """One free vector per slot, zero until the model is initialised.

    Parameters
    ----------
    max_length, d_model : int
        Slots and width.
    """

    def __init__(self, max_length: int, d_model: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(max_length, d_model))

    def add(
        self,
        x_BTD: Float[Tensor, "B T D"],
        positions: Int[Tensor, " T"] | None = None,
        calendar: Int[Tensor, "B T fields"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Add each token's slot; a position without one is a fault."""
        x_BTD = super().add(x_BTD, positions, calendar)
        n_slots, last = len(self.table), x_BTD.shape[1] - 1 if positions is None else int(positions.max())
        if last >= n_slots:
            remedy = "shorten the context or choose positions that extrapolate"
            raise Fault("positions", f"lie below the {n_slots} learned ones", last, remedy)
        return x_BTD + (self.table[: last + 1] if positions is None else self.table[positions])


class WavePositions(Positions):
    """Sines and cosines of a position, interleaved: dimension 2i the sine of pair i, 2i + 1 its cosine.

    Parameters
    ----------
    waves : callable
        Cosines and sines (T, P) of int64 positions, float64.
    """

    def __init__(self, waves: Callable[[Tensor], Tables]) -> None:
        super().__init__()
        self.waves = waves

    def add(
        self,
        x_BTD: Float[Tensor, "B T D"],
        positions: Int[Tensor, " T"] | None = None,
        calendar: Int[Tensor, "B T fields"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Add the code, cast to the type of the tokens."""
        x_BTD = super().add(x_BTD, positions, calendar)
        return x_BTD + self.code(steps(positions, x_BTD)).to(x_BTD)

    def code(self, positions: Int[Tensor, " T"]) -> Float[Tensor, "T D"]:
        """Return the code of each position in float64."""
        cos, sin = self.waves(positions)
        return torch.stack((sin, cos), dim=-1).flatten(1)
