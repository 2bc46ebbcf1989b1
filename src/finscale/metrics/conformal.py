"""Conformalized quantile regression: intervals moved until they cover what they should on held-out rows.

Romano, Patterson and Candes 2019, "Conformalized quantile regression", for every central interval whose two
levels are forecast. y outcomes (n,); q forecast quantiles (n, Q) at the levels tau (Q,), increasing.

The guarantee (coverage of at least 1 - alpha, on average over calibration sets) is for rows that are
**exchangeable**. Rows of a market are not: volatility comes in spells, overlapping returns share bars, and
the law drifts from the calibration rows to the later ones. What is left is a correction of how far intervals
missed in the recent past; whether it helps is read off later rows, where raw and corrected quantiles stand
side by side.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from finscale.core.errors import Fault

__all__ = ["conformal_offsets", "in_order", "level_pairs"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_SAME = 1e-9


def level_pairs(levels: Sequence[float]) -> tuple[tuple[int, int], ...]:
    """Return the places of both ends of every central interval, from the widest to the narrowest.

    Examples
    --------
    >>> level_pairs((0.05, 0.25, 0.5, 0.75, 0.9))
    ((1, 3),)
    """
    taus = np.asarray(levels, dtype=np.float64)
    partners = [np.flatnonzero(np.abs(taus + tau - 1) < _SAME) for tau in taus.tolist()]
    return tuple((low, int(found[0])) for low, found in enumerate(partners) if len(found) and low < found[0])


def conformal_offsets(y: Vector, q: Matrix, levels: Sequence[float]) -> Vector:
    """Return by how much each level is to be moved (Q,), in the units of y.

    Of an interval [l, u] at level 1 - alpha the ends are moved apart by the ceil((n + 1)(1 - alpha))-th
    smallest of max(l - y, y - u), or together where that is negative. A level without a partner stays.

    Raises
    ------
    Fault
        When there are too few rows for the widest interval.
    """
    offsets = np.zeros(len(levels))
    for low, high in level_pairs(levels):
        misses = np.sort(np.maximum(q[:, low] - y, y - q[:, high]))
        rank = math.ceil(round((len(y) + 1) * (levels[high] - levels[low]), 9))
        if rank > len(y):
            rule = f"be {math.ceil(1 / (1 - levels[high] + levels[low])) - 1} rows at least"
            raise Fault("calibration rows", rule, len(y), "use more validation rows, or levels further in")
        offsets[[low, high]] = np.array([-1, 1]) * misses[rank - 1]
    return offsets


def in_order(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quantiles (..., Q) that do not cross: from the middle level outwards none lies further in.

    An interval only ever grows by this, so what covers its share of rows still does.
    """
    middle = q.shape[-1] // 2
    down = np.minimum.accumulate(q[..., middle::-1], axis=-1)[..., ::-1]
    up = np.maximum.accumulate(q[..., middle:], axis=-1)[..., 1:]
    return np.concatenate([down, up], axis=-1)
