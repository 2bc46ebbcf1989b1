"""Many tests at once: adjusted p-values, and a typed record of what they reject."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from finscale.core.config import Record

__all__ = ["AdjustedTest", "Adjustment", "adjust_tests", "benjamini_hochberg", "holm"]

Floats = NDArray[np.float64]
Adjustment = Literal["holm", "benjamini_hochberg"]


class AdjustedTest(Record):
    """One test of a family.

    Attributes
    ----------
    p_value : float or None
        As given; None where the test could not be made, which does not count in the family.
    adjusted : float or None
        After the adjustment.
    rejected : bool
        Whether ``adjusted <= level``: family-wise error under ``holm``, false discovery rate under
        ``benjamini_hochberg``.
    """

    name: str
    method: Adjustment
    p_value: float | None
    adjusted: float | None
    level: float
    rejected: bool


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm's step-down adjusted p-values, in the order given (Holm 1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(2)
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    out = np.empty_like(adjusted)
    out[order] = adjusted
    return out


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Return p-values adjusted for the false discovery rate (Benjamini and Hochberg 1995).

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(2)
    array([0.03, 0.04, 0.04])
    """
    p = np.asarray(p_values, dtype=np.float64)
    return np.asarray(stats.false_discovery_control(p, method="bh")) if len(p) else p


def adjust_tests(
    p_values: Mapping[str, float | None], *, method: Adjustment, level: float = 0.05
) -> tuple[AdjustedTest, ...]:
    """Adjust a named family of tests, in the order given."""
    made = {name: p for name, p in p_values.items() if p is not None}
    values = {"holm": holm, "benjamini_hochberg": benjamini_hochberg}[method](list(made.values()))
    adjusted = dict(zip(made, values.tolist(), strict=True))
    return tuple(
        AdjustedTest(
            name=name,
            method=method,
            p_value=p,
            adjusted=adjusted.get(name),
            level=level,
            rejected=adjusted.get(name, 1.0) <= level,
        )
        for name, p in p_values.items()
    )
