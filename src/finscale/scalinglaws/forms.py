"""The curves we compare: every one is a line in some transform of N.

N parameters, L loss, E irreducible loss, A scale, alpha exponent; n points, ``z`` the transform of N.

- constant     L = E
- log_linear   L = E + B log10 N
- power_law    L = E + A N**-alpha   with A >= 0 and alpha in ``ALPHA_BOUNDS``
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ALPHA_BOUNDS", "N_PARAMETERS", "FormName", "Line", "fit_line", "power_basis", "predict_form"]

FormName = Literal["constant", "log_linear", "power_law"]
N_PARAMETERS: dict[FormName, int] = {"constant": 1, "log_linear": 2, "power_law": 3}
ALPHA_BOUNDS = (0.02, 1.5)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """Least-squares lines ``y = intercept + slope * z``, one per leading index of ``z``.

    Attributes
    ----------
    intercept, slope, rss : ndarray, shape (...)
        ``rss`` is the residual sum of squares.
    leverage : ndarray, shape (...)
        ``sum((z - mean z)**2)``; zero where the slope was held at zero.
    centre : ndarray, shape (...)
        ``mean z``.
    """

    intercept: Floats
    slope: Floats
    rss: Floats
    leverage: Floats
    centre: Floats


def fit_line(z: Floats, y: Floats, *, nonnegative: bool = False) -> Line:
    """Fit lines in closed form.

    Parameters
    ----------
    z : ndarray, shape (..., n)
    y : ndarray, shape (n,)
    nonnegative : bool
        Hold the slope at zero where least squares would make it negative.
    """
    centre, mean_y = z.mean(axis=-1), y.mean()
    centred, residual = z - centre[..., None], y - mean_y
    leverage = (centred**2).sum(axis=-1)
    cross = (centred * residual).sum(axis=-1)
    slope = np.divide(cross, leverage, out=np.zeros_like(cross), where=leverage > 0)
    if nonnegative:
        slope = np.maximum(slope, 0.0)
    rss = ((residual - slope[..., None] * centred) ** 2).sum(axis=-1)
    held = np.where(slope == 0, 0.0, leverage)
    return Line(mean_y - slope * centre, slope, rss, held, centre)


def power_basis(n_params: Floats, alpha: ArrayLike, *, reference: float) -> Floats:
    """Return ``(N / reference)**-alpha``, shape (alpha..., n); the reference keeps it near one."""
    ratio = np.log(n_params / reference)
    return np.exp(-np.asarray(alpha, dtype=np.float64)[..., None] * ratio)


def predict_form(form: FormName, parameters: dict[str, float], n_params: ArrayLike) -> Floats:
    """Return the loss that a fitted form predicts at ``n_params``.

    Examples
    --------
    >>> predict_form("power_law", {"E": 1.0, "A": 10.0, "alpha": 0.5}, [100.0])
    array([2.])
    """
    n = np.asarray(n_params, dtype=np.float64)
    if form == "constant":
        return np.full_like(n, parameters["E"])
    if form == "log_linear":
        return parameters["E"] + parameters["B"] * np.log10(n)
    return parameters["E"] + parameters["A"] * n ** -parameters["alpha"]
