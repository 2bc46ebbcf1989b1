"""Say where a token stands: rotary phases (RoPE) on queries and keys.

B batch, H heads, T positions, d width of a head (even), P = d / 2 rotated pairs. Position n turns pair i by
n * base**(-2i/d); a score q.k then depends on the distance between its two positions alone.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from finscale.core.errors import Fault

__all__ = ["apply_rotary", "rope_table"]


def rope_table(
    d_head: int, n_positions: int, *, base: float, dtype: torch.dtype = torch.float32
) -> tuple[Float[Tensor, "T P"], Float[Tensor, "T P"]]:
    """Return the cosines and sines of every position's phases.

    Parameters
    ----------
    d_head : int
        Width of a head; even, because dimensions turn in pairs.
    n_positions : int
        Positions 0 .. n_positions - 1 are tabulated.
    base : float
        The longest wavelength is about ``2 pi base`` positions.
    dtype : torch.dtype
        Of the result. Phases are float64 whatever it is: float32 radians are 0.03 apart near 10^6.

    Returns
    -------
    tuple of Tensor
        ``cos`` and ``sin``, each (n_positions, d_head / 2).

    Raises
    ------
    Fault
        When ``d_head`` is odd.

    References
    ----------
    Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", section 3.2.2.
    """
    if d_head % 2:
        raise Fault("d_head", "be even for rotary positions", d_head, "change d_model or n_heads")
    exponents = torch.arange(0, d_head, 2, dtype=torch.float64) / d_head
    phases = torch.outer(torch.arange(n_positions, dtype=torch.float64), float(base) ** -exponents)
    return phases.cos().to(dtype), phases.sin().to(dtype)


def apply_rotary(
    x_BHTd: Float[Tensor, "B H T d"], cos: Float[Tensor, "T P"], sin: Float[Tensor, "T P"]
) -> Float[Tensor, "B H T d"]:
    """Turn every head vector by the phases of its position.

    Pair i joins dimensions i and i + d/2 (the rotate-half layout of Llama checkpoints), where the paper joins
    2i and 2i + 1: the same maths under a fixed permutation of the dimensions.
    """
    first, second = x_BHTd.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
