"""Is a richer form worth it where AICc has no room? A likelihood ratio against its own simulated null.

With a handful of budgets the chi-square of Wilks says nothing, and AICc needs more points than there are. The
null is simulated instead: draws from the fitted smaller form with normal noise, both forms refitted to each
(parametric bootstrap; Davison and Hinkley 1997, section 4.2.3). n points, B draws.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from finscale.core.config import Record
from finscale.core.seeding import generator
from finscale.scalinglaws.forms import (
    ALPHA_BOUNDS,
    DEGREES,
    N_PARAMETERS,
    FormName,
    polynomial_basis,
    power_basis,
)

__all__ = ["ComparisonStatus", "FormComparison", "compare_forms"]

Floats = NDArray[np.float64]
ComparisonStatus = Literal["ok", "too_few_points", "ties"]
N_DRAWS = 999
_PAIRS: tuple[tuple[FormName, FormName], ...] = (
    ("constant", "log_linear"),
    ("constant", "quadratic"),
    ("constant", "power_law"),
    ("log_linear", "quadratic"),
    ("log_linear", "power_law"),
)
_GRID = np.linspace(*ALPHA_BOUNDS, 149)


class FormComparison(Record):
    """A likelihood-ratio test of one form against a richer one.

    Attributes
    ----------
    statistic : float or None
        ``n log(RSS null / RSS alternative)``; None where the richer form passes through every point.
    p_value : float or None
        Share of ``n_draws`` simulated nulls with at least that ratio, counting the data as one more.
    """

    null: FormName
    alternative: FormName
    status: ComparisonStatus
    statistic: float | None = None
    p_value: float | None = None
    n_draws: int = N_DRAWS


def compare_forms(n_params: Floats, loss: Floats) -> tuple[FormComparison, ...]:
    """Test constant and log-linear against every richer form.

    Parameters
    ----------
    n_params, loss : ndarray, shape (n,)
        Finite, N positive. The simulated noise is a fixed stream: the same points give the same p-values.
    """
    return tuple(_compare(null, alternative, n_params, loss) for null, alternative in _PAIRS)


def _compare(null: FormName, alternative: FormName, n_params: Floats, loss: Floats) -> FormComparison:
    pair = {"null": null, "alternative": alternative}
    n = len(loss)
    if n <= N_PARAMETERS[alternative] or len(np.unique(n_params)) < N_PARAMETERS[alternative]:
        return FormComparison(**pair, status="too_few_points")
    if np.ptp(loss) <= 1e-12 * np.abs(loss).max():
        return FormComparison(**pair, status="ties")
    centred = loss - loss.mean()
    observed = _remainder(null, alternative, n_params, centred[None, :])[0]
    simulated = _remainder(null, alternative, n_params, _draw(null, n_params, centred))
    p_value = (1 + int((simulated <= observed).sum())) / (1 + N_DRAWS)
    statistic = -n * float(np.log(observed)) if observed > 1e-12 else None
    return FormComparison(**pair, status="ok", statistic=statistic, p_value=p_value)


def _draw(null: FormName, n_params: Floats, loss: Floats) -> Floats:
    """Return simulated losses from the fitted null, shape (B, n)."""
    n = len(loss)
    basis = polynomial_basis(n_params, DEGREES[null])
    fitted = basis.T @ (basis @ loss)
    sd = np.sqrt(((loss - fitted) ** 2).sum() / (n - N_PARAMETERS[null]))
    noise = generator(0, "likelihood_ratio", null, n).standard_normal((N_DRAWS, n))
    return fitted + sd * noise


def _remainder(null: FormName, alternative: FormName, n_params: Floats, loss: Floats) -> Floats:
    """Return RSS of the alternative over RSS of the null, shape (B,), for losses (B, n)."""
    rss_null, rss = _rss(null, n_params, loss), _rss(alternative, n_params, loss)
    return np.divide(rss, rss_null, out=np.ones_like(rss), where=rss_null > 0)


def _rss(form: FormName, n_params: Floats, loss: Floats) -> Floats:
    if form == "power_law":
        deviation = loss - loss.mean(axis=1, keepdims=True)
        along = np.maximum((deviation @ _unit_curves(n_params).T).max(axis=1), 0.0)
        return np.maximum((deviation**2).sum(axis=1) - along**2, 0.0)
    basis = polynomial_basis(n_params, DEGREES[form])
    return ((loss - loss @ basis.T @ basis) ** 2).sum(axis=1)


def _unit_curves(n_params: Floats) -> Floats:
    """Return N**-alpha for a grid of alpha, centred and of length one, shape (n_alpha, n)."""
    curves = power_basis(n_params, _GRID, reference=float(n_params.min()))
    centred = curves - curves.mean(axis=1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)
