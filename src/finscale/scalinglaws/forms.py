"""The curves we compare: polynomials in log N, and a power law that is a line in some transform of N.

N parameters, L loss, E irreducible loss, A scale, alpha exponent; n points, ``z`` a transform of N.

- constant     L = E
- log_linear   L = E + B log10 N
- quadratic    L = E + B log10 N + Q (log10 N)**2   (overfitting shows as a U)
- power_law    L = E + A N**-alpha   with A >= 0 and alpha in ``ALPHA_BOUNDS``
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ALPHA_BOUNDS",
    "DEGREES",
    "N_PARAMETERS",
    "FormName",
    "Line",
    "fit_line",
    "fit_polynomial",
    "polynomial_basis",
    "power_basis",
    "predict_form",
]

FormName = Literal["constant", "log_linear", "quadratic", "power_law"]
N_PARAMETERS: dict[FormName, int] = {"constant": 1, "log_linear": 2, "quadratic": 3, "power_law": 3}
DEGREES: dict[FormName, int] = {"constant": 0, "log_linear": 1, "quadratic": 2}
ALPHA_BOUNDS = (0.02, 1.5)
_COEFFICIENTS = ("E", "B", "Q")

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


def polynomial_basis(n_params: Floats, degree: int, *, at: Floats | None = None) -> Floats:
    """Return an orthonormal basis of the polynomials in log N of ``degree``, shape (degree + 1, n).

    Parameters
    ----------
    at : ndarray, shape (m,), optional
        Where to evaluate the same basis, in N; shape (degree + 1, m) then.
    """
    centre, scale = np.log10(n_params).mean(), max(float(np.ptp(np.log10(n_params))), 1e-12)

    def powers(n: Floats) -> Floats:
        return np.vander((np.log10(n) - centre) / scale, degree + 1, increasing=True)

    orthonormal, triangle = np.linalg.qr(powers(n_params))
    if at is None:
        return orthonormal.T
    return np.linalg.solve(triangle.T, powers(at).T)


def fit_polynomial(form: FormName, n_params: Floats, loss: Floats) -> tuple[dict[str, float], float]:
    """Return the coefficients of a polynomial form (E, B, Q as far as it has them) and its RSS."""
    degree, log10_n = DEGREES[form], np.log10(n_params)
    basis = polynomial_basis(n_params, degree)
    rss = float(((loss - basis.T @ (basis @ loss)) ** 2).sum())
    centred = np.polynomial.Polynomial.fit(log10_n, loss, degree) if degree else None
    coefficients = [float(loss.mean())] if centred is None else centred.convert().coef
    padded = [*coefficients, 0.0, 0.0][: degree + 1]
    return dict(zip(_COEFFICIENTS, map(float, padded), strict=False)), rss


def predict_form(form: FormName, parameters: dict[str, float], n_params: ArrayLike) -> Floats:
    """Return the loss that a fitted form predicts at ``n_params``.

    Examples
    --------
    >>> predict_form("power_law", {"E": 1.0, "A": 10.0, "alpha": 0.5}, [100.0])
    array([2.])
    """
    n = np.asarray(n_params, dtype=np.float64)
    if form == "power_law":
        return parameters["E"] + parameters["A"] * n ** -parameters["alpha"]
    coefficients = [parameters.get(name, 0.0) for name in _COEFFICIENTS]
    return np.asarray(np.polynomial.polynomial.polyval(np.log10(n), coefficients), dtype=np.float64)
