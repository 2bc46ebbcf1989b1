"""What a code of positions can tell apart, from its numbers alone: no model, no training.

T positions, D width of a code (d_model where it is added, d_head where it turns).
"""

from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.models.layers.positions import build_positions
from finscale.models.layers.positions.additive import WavePositions
from finscale.models.layers.positions.phases import spiral_turns
from finscale.models.layers.positions.turning import RotaryPositions
from finscale.models.position_config import AnyPositionConfig, Constant

__all__ = [
    "Arithmetic",
    "Spectrum",
    "collision_cosines",
    "exact_turns",
    "phase_errors",
    "position_code",
    "spectrum",
    "star_discrepancy",
]

Floats = NDArray[np.float64]
Arithmetic = Literal["fixed_point", "float64", "float32", "bfloat16"]

_DIGITS, _GUARD = 100, 10
_RANK_TOLERANCE = 1e-6
_TYPES: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}


class Spectrum(Record):
    """Directions that a code of ``width`` numbers takes over some positions.

    Parameters
    ----------
    width : int
        D.
    rank : int
        Singular values above 1e-6 of the largest.
    singular_values : tuple of float
        Of the code of every position, one below the other; divided by the largest, from it downwards.
    """

    width: int
    rank: int
    singular_values: tuple[float, ...]


def position_code(config: AnyPositionConfig, positions: Sequence[int], *, width: int) -> Floats:
    """Return the code (T, D) of each position: what is added, or the cosines and then sines that turn.

    The dot product of two codes that turn is D / 2 times the mean cosine of the angles between them.

    Raises
    ------
    Fault
        When positions of this kind have no code of their own (``none``, ``learned``, ``alibi``, calendars),
        or the width cannot carry it.
    """
    sizes = {"d_model": width, "d_head": width, "n_heads": 1, "max_length": 0}
    built, at_T = build_positions(config, **sizes), torch.tensor(positions, dtype=torch.int64)
    if isinstance(built, WavePositions):
        return _array(built.code(at_T))
    if isinstance(built, RotaryPositions):
        return _array(torch.cat(built.table(at_T), dim=1))
    raise Fault("positions.kind", "add a fixed code or turn pairs", config.kind, "choose another kind")


def collision_cosines(
    config: AnyPositionConfig, offsets: Sequence[int], *, width: int, start: int = 0
) -> Floats:
    """Return the cosine between the codes of ``start`` and ``start`` + each offset; 1 is a collision.

    Only the hybrids of a gate on absolute positions depend on ``start``.

    Examples
    --------
    >>> from finscale.models.position_config import PiSpiralConfig
    >>> collision_cosines(PiSpiralConfig(form="additive"), [113], width=8).round(7).item()
    1.0
    """
    code_TD = position_code(config, [start, *(start + offset for offset in offsets)], width=width)
    norms_T = np.linalg.norm(code_TD, axis=1)
    cosines: Floats = code_TD[1:] @ code_TD[0] / (norms_T[1:] * norms_T[0])
    return cosines


def spectrum(code_TD: Floats) -> Spectrum:
    """Return the singular values and the rank of a code over some positions, at least as many as numbers."""
    n_positions, width = code_TD.shape
    if n_positions < width:
        got = f"T={n_positions}, D={width}"
        raise Fault("positions", "be as many as the numbers of a code", got, "take more of them")
    values = np.linalg.svd(code_TD, compute_uv=False)
    shares = values / values[0]
    rank = int((shares > _RANK_TOLERANCE).sum())
    return Spectrum(width=width, rank=rank, singular_values=tuple(shares.tolist()))


def star_discrepancy(turns_T: Floats) -> float:
    """Return how far points in [0, 1) are from even: 1 / (2 T) at best, 1 at worst.

    The largest gap, over all x, between x and the share of points below x (Niederreiter 1992, theorem 2.6).

    Examples
    --------
    >>> star_discrepancy(np.array([0.125, 0.375, 0.625, 0.875]))
    0.125
    """
    n = len(turns_T)
    if n == 0:
        raise Fault("turns", "hold a point", "none", "pass at least one")
    centres_T = (2 * np.arange(1, n + 1) - 1) / (2 * n)
    return float(1 / (2 * n) + np.abs(np.sort(turns_T) - centres_T).max())


def phase_errors(
    constant: Constant, positions: Sequence[int], *, arithmetic: Arithmetic = "fixed_point"
) -> Floats:
    """Return the error of frac(n c) in turns, the short way round, against 100-digit arithmetic.

    Parameters
    ----------
    constant : str
        c; ``prng`` has no exact phase.
    positions : sequence of int
        n.
    arithmetic : str
        ``fixed_point`` as the models compute it, or n times c in a floating-point type.
    """
    exact, at_T = exact_turns(constant, positions), torch.tensor(positions, dtype=torch.int64)
    if arithmetic == "fixed_point":
        turns_T = spiral_turns(at_T, 1, constant=constant, constants="single")[:, 0]
    else:
        dtype = _TYPES[arithmetic]
        c = torch.tensor(float(_constant(constant)), dtype=torch.float64).to(dtype)
        turns_T = (at_T.to(dtype) * c).double().remainder(1.0)
    apart = (_array(turns_T) - exact + 0.5) % 1 - 0.5
    return np.abs(apart)


def exact_turns(constant: Constant, positions: Sequence[int]) -> Floats:
    """Return frac(n c) computed with 100 digits and only then rounded.

    Raises
    ------
    Fault
        For ``prng``, a hash.
    """
    with localcontext() as context:
        context.prec = _DIGITS
        c = _constant(constant)
        return np.array([float(n * c % 1) for n in positions])


def _constant(constant: Constant) -> Decimal:
    if constant not in _CONSTANTS:
        known = ", ".join(_CONSTANTS)
        raise Fault("constant", f"be one of {known}, which have a value", constant, "a hash has no phase")
    with localcontext() as context:
        context.prec = _DIGITS + _GUARD
        return _CONSTANTS[constant]()


def _pi() -> Decimal:
    """Return pi by Machin's formula, 16 arctan(1/5) - 4 arctan(1/239)."""
    return 16 * _arctan_of_inverse(5) - 4 * _arctan_of_inverse(239)


def _arctan_of_inverse(x: int) -> Decimal:
    total, power, k = Decimal(0), Decimal(1) / x, 0
    while power > Decimal(10) ** -(_DIGITS + _GUARD):
        total += (-1) ** k * power / (2 * k + 1)
        power, k = power / x**2, k + 1
    return total


_CONSTANTS: dict[str, Callable[[], Decimal]] = {
    "pi": _pi,
    "e": lambda: Decimal(1).exp(),
    "sqrt2": lambda: Decimal(2).sqrt(),
    "phi": lambda: (1 + Decimal(5).sqrt()) / 2,
}


def _array(x: Tensor) -> Floats:
    return x.double().numpy()
