"""Attention with linear biases: a score loses slope_h per step of distance (Press et al. 2022).

B batch, H heads, K key-value heads, T queries, S keys, d d_head, E = d + columns.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from finscale.models.layers.positions.contract import Positions, Related, key_steps
from finscale.models.position_counts import ALIBI_DIGITS, alibi_columns

__all__ = ["AlibiPositions", "alibi_slopes"]


class AlibiPositions(Positions):
    """Distance penalties without a T x S bias, as long as attention is causal.

    Notes
    -----
    ``-m (i - j)`` is ``-m (L - j)`` up to a constant per query, which softmax does not see; L is the last
    key. So every key gains the columns of L - j and every query -m sqrt(d_head). The distance is written in
    three digits of base 256, because bfloat16 holds whole numbers only up to 256; columns are padded to a
    multiple of eight. Columns depend on L, so they are made per call and never cached. Without a causal mask
    the penalty is ``-m |i - j|``, which no column expresses: then it is a bias (H, T, S).
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.slopes = alibi_slopes(n_heads)

    def relate(
        self,
        q_BHTd: Float[Tensor, "B H T d"],
        k_BKSd: Float[Tensor, "B K S d"],
        positions: Int[Tensor, " T"] | None = None,
        key_positions: Int[Tensor, " S"] | None = None,
        *,
        causal: bool,
    ) -> Related:
        """Append the columns; softmax must still divide by the square root of the old width."""
        steps_T, steps_S = key_steps(q_BHTd, k_BKSd, positions, key_positions)
        if not causal:
            return Related(q_BHTd, k_BKSd, self._bias(steps_T, steps_S).to(q_BHTd))
        digits_SX = _digits(steps_S.max() - steps_S, alibi_columns(q_BHTd.shape[-1])).to(k_BKSd)
        weights_HX = self._weights(q_BHTd.shape[-1]).to(q_BHTd)
        return Related(_append(q_BHTd, weights_HX[:, None, :]), _append(k_BKSd, digits_SX))

    def _weights(self, d_head: int) -> Float[Tensor, "H X"]:
        """Return what multiplies the digits 1, 256 and 65536; the last carries 256 of it itself."""
        per_step_H = -torch.tensor(self.slopes, dtype=torch.float64, device="cpu") * d_head**0.5
        places_X = per_step_H.new_zeros(alibi_columns(d_head))
        places_X[:ALIBI_DIGITS] = per_step_H.new_tensor([1, 256, 256])
        return torch.outer(per_step_H, places_X)

    def _bias(self, steps_T: Int[Tensor, " T"], steps_S: Int[Tensor, " S"]) -> Float[Tensor, "H T S"]:
        slopes_H = torch.tensor(self.slopes, dtype=torch.float64, device=steps_T.device)
        return -slopes_H[:, None, None] * (steps_T[:, None] - steps_S).abs()


def alibi_slopes(n_heads: int) -> tuple[float, ...]:
    """Return the slope of each head: 2^(-8 h / H) for H a power of two.

    For another H, those of the next lower power of two, then every other one of the next higher (the authors'
    released rule).

    Examples
    --------
    >>> alibi_slopes(4)
    (0.25, 0.0625, 0.015625, 0.00390625)
    """
    lower = 1 << (n_heads.bit_length() - 1)
    whole = [2.0 ** (-8 * h / lower) for h in range(1, lower + 1)]
    between = [2.0 ** (-4 * h / lower) for h in range(1, 2 * (n_heads - lower), 2)]
    return tuple(whole + between)


def _digits(distances_S: Int[Tensor, " S"], n_columns: int) -> Float[Tensor, "S X"]:
    """Write distances in base 256, the last digit times 256 (float16 ends at 65504), then zeros."""
    digits_SX = distances_S.new_zeros(len(distances_S), n_columns)
    digits_SX[:, 0] = distances_S % 256
    digits_SX[:, 1] = distances_S // 256 % 256
    digits_SX[:, 2] = distances_S // 65536 * 256
    return digits_SX.double()


def _append(x_BHTd: Tensor, columns: Tensor) -> Tensor:
    return torch.cat((x_BHTd, columns.expand(*x_BHTd.shape[:-1], -1)), dim=-1)
