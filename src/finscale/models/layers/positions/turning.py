"""Kinds that turn queries and keys: the tables of `rotary` and `phases`, behind one module; and the hybrid.

B batch, H heads, K key-value heads, T queries, S keys, d d_head, P = d / 2 pairs.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from finscale.models.layers.positions.contract import Positions, Related, key_steps, steps
from finscale.models.layers.positions.phases import spiral_table
from finscale.models.layers.positions.rotary import Tables, apply_rotary
from finscale.models.position_config import HybridConfig, PiSpiralConfig

__all__ = ["DistanceHybrid", "RotaryPositions", "hard_gate", "mixed_table", "rotary_spiral"]

TableOf = Callable[[Tensor], Tables]


class RotaryPositions(Positions):
    """Turn queries and keys by a table of their positions.

    Parameters
    ----------
    table : callable
        Cosines and sines (T, P) of int64 positions, float64.
    """

    def __init__(self, table: TableOf) -> None:
        super().__init__()
        self.table = table

    def tables(
        self, positions: Int[Tensor, " T"] | None = None, *, like: Float[Tensor, "*leading T width"]
    ) -> Tables | None:
        """Return the table, cast only now."""
        cos, sin = self.table(steps(positions, like))
        return cos.to(like), sin.to(like)


class DistanceHybrid(RotaryPositions):
    """Scores of one table up to K steps apart, of another beyond K + width, a ramp between.

    Queries and keys turn by the near table; `relate` turns them back and on by the far one, and adds the
    gated difference of the two scores as a bias, which is exactly zero up to K.
    """

    def __init__(self, near: TableOf, far: TableOf, *, K: int, width: int) -> None:
        super().__init__(near)
        self.far, self.K, self.width = far, K, width

    def relate(
        self,
        q_BHTd: Float[Tensor, "B H T d"],
        k_BKSd: Float[Tensor, "B K S d"],
        positions: Int[Tensor, " T"] | None = None,
        key_positions: Int[Tensor, " S"] | None = None,
        *,
        causal: bool,
    ) -> Related:
        """Add ``w(|i - j|) (far - near)`` to the scaled scores; costs a bias of T x S per head."""
        steps_T, steps_S = key_steps(q_BHTd, k_BKSd, positions, key_positions)
        far_q, far_k = self._turned_far(q_BHTd, steps_T), self._turned_far(k_BKSd, steps_S)
        difference = _scores(far_q, far_k) - _scores(q_BHTd, k_BKSd)
        gate_TS = hard_gate((steps_T[:, None] - steps_S).abs(), K=self.K, width=self.width)
        return Related(q_BHTd, k_BKSd, gate_TS.to(difference) * difference)

    def _turned_far(self, x: Tensor, positions: Tensor) -> Tensor:
        cos, sin = (table.to(x) for table in self.table(positions))
        far_cos, far_sin = (table.to(x) for table in self.far(positions))
        return apply_rotary(apply_rotary(x, cos, -sin), far_cos, far_sin)


def hard_gate(n: Int[Tensor, "..."], *, K: int, width: int) -> Float[Tensor, "..."]:
    """Return 0 up to K, 1 from K + width on, linear between."""
    return ((n.double() - K) / width).clamp(0, 1)


def mixed_table(near: TableOf, far: TableOf, config: HybridConfig) -> TableOf:
    """Return the table ``(1 - w) near + w far`` of a gate on absolute positions."""

    def table(positions: Tensor) -> Tables:
        gate_T1 = _absolute_gate(positions, config)[:, None]
        (cos, sin), (far_cos, far_sin) = near(positions), far(positions)
        return cos.lerp(far_cos, gate_T1), sin.lerp(far_sin, gate_T1)

    return table


def rotary_spiral(config: PiSpiralConfig | HybridConfig, d_head: int) -> TableOf:
    """Return the table of a rotary spiral: the first pairs turn, the rest stand still."""
    n_pairs, fraction = d_head // 2, config.rotated_fraction or 1.0
    n_turning = max(round(fraction * n_pairs), 1)

    def table(positions: Tensor) -> Tables:
        cos, sin = spiral_table(positions, n_turning, constant=config.constant, constants=config.constants)
        still = cos.new_ones(len(positions), n_pairs - n_turning)
        return torch.cat((cos, still), dim=1), torch.cat((sin, still - 1), dim=1)

    return table


def _absolute_gate(positions: Int[Tensor, " T"], config: HybridConfig) -> Float[Tensor, " T"]:
    if config.gate == "absolute_sigmoid":
        return torch.sigmoid((positions.double() - config.K) / config.width)
    return hard_gate(positions, K=config.K, width=config.width)


def _scores(q_BHTd: Tensor, k_BKSd: Tensor) -> Tensor:
    """Return q k / sqrt(d_head); grouped queries share their key."""
    keys_BHSd = k_BKSd.repeat_interleave(q_BHTd.shape[1] // k_BKSd.shape[1], dim=1)
    return q_BHTd @ keys_BHSd.mT * q_BHTd.shape[-1] ** -0.5
