"""Whether a series over uneven distances swings with one of them. No torch."""

import math

import numpy as np
from scipy.signal import lombscargle

from finscale.longcontext.paired import Floats

__all__ = ["p_of_period"]

_N_FREQUENCIES, _N_PERMUTATIONS = 64, 999
# at half of the sampling rate itself sines vanish on an even grid, and with them the power's divisor
_BELOW_NYQUIST = 0.45


def p_of_period(at: Floats, values: Floats, *, rng: np.random.Generator) -> float:
    """Return how often values in random order swing as strongly as these.

    The strength is the largest power of a Lomb-Scargle periodogram (Scargle 1982) of what a quadratic in the
    logarithm of the distance leaves.

    Parameters
    ----------
    at : array
        Distances, all different and positive.
    values : array
        What was measured there.
    rng : Generator
        Of the orders.
    """
    scaled = np.log2(at)
    left = values - np.polyval(np.polyfit(scaled, values, 2), scaled)
    spacing = np.diff(np.sort(at)).min()
    frequencies = 2 * math.pi * np.geomspace(1 / np.ptp(at), _BELOW_NYQUIST / spacing, _N_FREQUENCIES)

    def strength(order: Floats) -> float:
        return float(lombscargle(at, order, frequencies).max())

    found = strength(left)
    shuffled = [strength(rng.permutation(left)) for _ in range(_N_PERMUTATIONS)]
    return float((1 + sum(other >= found for other in shuffled)) / (1 + _N_PERMUTATIONS))
