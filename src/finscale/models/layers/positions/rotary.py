"""Turn queries and keys by the phase of their position (RoPE and its scalings).

B batch, H heads, T positions, d width of a head (even), P = d / 2 pairs. Position n turns pair i by n theta_i
radians, theta_i = base**(-2i/d); a score q.k then depends on the distance between its two positions alone.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from finscale.core.errors import Fault

__all__ = [
    "Tables",
    "apply_rotary",
    "dynamic_table",
    "linear_table",
    "ntk_table",
    "rope_frequencies",
    "rope_table",
    "turn",
    "yarn_frequencies",
    "yarn_table",
    "yarn_temperature",
]

Tables = tuple[Float[Tensor, "T P"], Float[Tensor, "T P"]]

_FAST_TURNS, _SLOW_TURNS = 32.0, 1.0


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
    cos, sin = turn(torch.arange(n_positions), rope_frequencies(d_head, base=base))
    return cos.to(dtype), sin.to(dtype)


def apply_rotary(
    x_BHTd: Float[Tensor, "B H T d"], cos: Float[Tensor, "T P"], sin: Float[Tensor, "T P"]
) -> Float[Tensor, "B H T d"]:
    """Turn every head vector by the phases of its position.

    Pair i joins dimensions i and i + d/2 (the rotate-half layout of Llama checkpoints), where the paper joins
    2i and 2i + 1: the same maths under a fixed permutation of the dimensions.
    """
    first, second = x_BHTd.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def rope_frequencies(d_head: int, *, base: float) -> Float[Tensor, " P"]:
    """Return theta_i = base**(-2i/d), radians a step, float64 on the CPU."""
    exponents_P = torch.arange(0, d_head, 2, dtype=torch.float64, device="cpu") / d_head
    return float(base) ** -exponents_P


def turn(
    positions: Int[Tensor, " T"], frequencies: Float[Tensor, " P"]
) -> tuple[Float[Tensor, "T P"], Float[Tensor, "T P"]]:
    """Return cosines and sines of ``positions x frequencies`` in float64."""
    phases_TP = torch.outer(positions.double(), frequencies.to(positions.device))
    return phases_TP.cos(), phases_TP.sin()


def linear_table(positions: Int[Tensor, " T"], d_head: int, *, base: float, factor: float) -> Tables:
    """Position interpolation: every frequency divided by ``factor`` (Chen et al. 2023)."""
    return turn(positions, rope_frequencies(d_head, base=base) / factor)


def ntk_table(positions: Int[Tensor, " T"], d_head: int, *, base: float, factor: float) -> Tables:
    """Static NTK-aware scaling: the slowest pair is slowed by ``factor``, the fastest not at all."""
    return turn(positions, rope_frequencies(d_head, base=base * factor ** (d_head / (d_head - 2))))


def dynamic_table(
    positions: Int[Tensor, " T"], d_head: int, *, base: float, factor: float, original_length: int
) -> Tables:
    """NTK-aware scaling by the length of this call; up to ``original_length`` it is plain rope."""
    length = max(int(positions.max()) + 1, original_length)
    growth = factor * length / original_length - (factor - 1)
    return ntk_table(positions, d_head, base=base, factor=growth)


def yarn_table(
    positions: Int[Tensor, " T"], d_head: int, *, base: float, factor: float, original_length: int
) -> Tables:
    """YaRN: NTK by parts, cosines and sines multiplied by the temperature (Peng et al. 2023)."""
    frequencies_P = yarn_frequencies(d_head, base=base, factor=factor, original_length=original_length)
    cos, sin = turn(positions, frequencies_P)
    return cos * yarn_temperature(factor), sin * yarn_temperature(factor)


def yarn_temperature(factor: float) -> float:
    """Return 0.1 ln(s) + 1; scores grow by its square (section 3.4)."""
    return 0.1 * math.log(factor) + 1.0


def yarn_frequencies(d_head: int, *, base: float, factor: float, original_length: int) -> Float[Tensor, " P"]:
    """Return the frequencies of NTK by parts (section 3.2).

    Pairs up to the one that turns 32 times within ``original_length`` keep theirs, from the one that turns
    once on they are divided by ``factor``, linear in the pair's index between. The two bounds are rounded
    outwards to whole pairs, as the authors' code does and the paper does not say.
    """
    plain_P = rope_frequencies(d_head, base=base)
    low = max(math.floor(_pair_turning(_FAST_TURNS, d_head, base, original_length)), 0)
    high = min(math.ceil(_pair_turning(_SLOW_TURNS, d_head, base, original_length)), d_head - 1)
    pairs_P = torch.arange(d_head // 2, dtype=torch.float64, device="cpu")
    # two equal bounds are a step: anything narrower than one pair says so
    divided_P = ((pairs_P - low) / (high - low if high != low else 1e-3)).clamp(0, 1)
    return plain_P * (1 - divided_P) + plain_P / factor * divided_P


def _pair_turning(n_turns: float, d_head: int, base: float, length: int) -> float:
    """Return the index i (a real number) of the pair that turns ``n_turns`` times within ``length``."""
    return d_head * math.log(length / (n_turns * 2 * math.pi)) / (2 * math.log(base))
