"""Irrational phases, exact at every position: frac(n c) in 64-bit integer arithmetic.

T positions, P pairs. A constant is held as the integer floor(frac(c) 2^64); n times it wraps around at 2^64
by itself, and what remains is frac(n c) with an error of n / 2^64 turns: 5e-11 at n = 10^9, where float64 is
left with 1e-7 and float32 with noise.
"""

import math
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from functools import lru_cache
from itertools import count, islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from finscale.models.position_config import Constant, Constants

__all__ = ["multipliers", "spiral_table", "spiral_turns", "splitmix64"]

_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
_DIGITS = 60
_TURN = 2**64
_IRRATIONALS: dict[str, Callable[[], Decimal]] = {
    "pi": lambda: _PI,
    "e": lambda: Decimal(1).exp(),
    "sqrt2": lambda: Decimal(2).sqrt(),
    "phi": lambda: (1 + Decimal(5).sqrt()) / 2,
}
_INCREMENT, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def spiral_table(
    positions: Int[Tensor, " T"], n_pairs: int, *, constant: Constant, constants: Constants
) -> tuple[Float[Tensor, "T P"], Float[Tensor, "T P"]]:
    """Return cosines and sines of 2 pi frac(n c_i) in float64."""
    n_distinct = n_pairs if constants == "per_pair" else 1
    turns = spiral_turns(positions, n_distinct, constant=constant, constants=constants)
    radians = 2 * math.pi * turns
    return radians.cos().expand(-1, n_pairs), radians.sin().expand(-1, n_pairs)


def spiral_turns(
    positions: Int[Tensor, " T"], n_distinct: int, *, constant: Constant, constants: Constants
) -> Float[Tensor, "T P"]:
    """Return frac(n c_i) in [0, 1]: c_i is c itself (``single``) or c sqrt(prime_i) (``per_pair``).

    Under ``prng`` the phase is a hash of n (and of the pair's index): uniform, repeatable, without any order.
    """
    if constant == "prng":
        return _hashed_turns(positions, n_distinct)
    held = multipliers(constant, n_distinct if constants == "per_pair" else None)
    signed_P = torch.tensor([_signed(m) for m in held], device=positions.device)
    wrapped_TP = positions[:, None] * signed_P
    return (wrapped_TP.double() / 2.0**64).remainder(1.0)


@lru_cache(maxsize=64)
def multipliers(constant: Constant, n_pairs: int | None) -> tuple[int, ...]:
    """Return floor(frac(c_i) 2^64): of c alone, or of c sqrt(prime_i) for ``n_pairs`` primes in order.

    sqrt(2) begins at the prime 3: sqrt(2) sqrt(2) is a whole number of turns, a pair that never moves.
    """
    with localcontext() as context:
        context.prec = _DIGITS
        value = _IRRATIONALS[constant]()
        primes = (prime for prime in _primes() if (constant, prime) != ("sqrt2", 2))
        roots = [Decimal(1)] if n_pairs is None else [Decimal(p).sqrt() for p in islice(primes, n_pairs)]
        return tuple(int(value * root % 1 * _TURN) for root in roots)


def splitmix64(counter: int) -> int:
    """Return the output of the generator SplitMix64 whose state is ``counter`` (Steele et al. 2014).

    Examples
    --------
    >>> hex(splitmix64(0))
    '0xe220a8397b1dcdaf'
    """
    z = (counter + _INCREMENT) % _TURN
    z = (z ^ z >> 30) * _FIRST % _TURN
    z = (z ^ z >> 27) * _SECOND % _TURN
    return z ^ z >> 31


def _hashed_turns(positions: Int[Tensor, " T"], n_distinct: int) -> Float[Tensor, "T P"]:
    """Return the top 53 bits of splitmix64(n xor salt_i) as a fraction; the first salt is 0."""
    salts = [0, *(splitmix64(i) for i in range(1, n_distinct))]
    salts_P = torch.tensor([_signed(salt) for salt in salts], device=positions.device)
    z = (positions[:, None] ^ salts_P) + _signed(_INCREMENT)
    z = (z ^ _shifted(z, 30)) * _signed(_FIRST)
    z = (z ^ _shifted(z, 27)) * _signed(_SECOND)
    return _shifted(z ^ _shifted(z, 31), 11).double() / 2**53


def _shifted(z: Tensor, n_bits: int) -> Tensor:
    """Return a logical right shift: torch's own copies the sign."""
    return z >> n_bits & (1 << 64 - n_bits) - 1


def _signed(value: int) -> int:
    """Return the int64 with the bits of an unsigned value."""
    return value - _TURN if value >= _TURN // 2 else value


def _primes() -> Iterator[int]:
    found: list[int] = []
    for candidate in count(2):
        if all(candidate % p for p in found if p * p <= candidate):
            found.append(candidate)
            yield candidate
