"""Fit every form, always all of them, and say which of their numbers the data allow.

n points, k mean parameters; AICc counts the variance as one more (Hurvich and Tsai 1989).
"""

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.scalinglaws.comparison import FormComparison, compare_forms
from finscale.scalinglaws.exponent import ExponentInterval, exponent_interval, profile_alpha
from finscale.scalinglaws.extrapolation import (
    AveragedExtrapolation,
    Extrapolation,
    average_extrapolations,
    leave_largest_out,
)
from finscale.scalinglaws.forms import N_PARAMETERS, FormName, fit_polynomial
from finscale.scalinglaws.joint import JointFit, fit_joint

__all__ = ["FitStatus", "FormFit", "ScalingFit", "fit"]

Floats = NDArray[np.float64]
FitStatus = Literal["ok", "too_few_points", "constant_n", "too_few_levels"]


class FormFit(Record):
    """One form fitted to the points.

    Attributes
    ----------
    parameters : dict
        E; E, B; E, B, Q; or E, A, alpha. Empty unless ``status`` is ``ok``.
    residual_variance : float or None
        ``rss / (n - k)``; None without a degree of freedom.
    aicc : float or None
        None where n <= k + 2, or where the form passes through every point.
    """

    form: FormName
    status: FitStatus
    n_points: int
    parameters: dict[str, float] = Field(default_factory=dict)
    rss: float | None = None
    residual_variance: float | None = None
    aicc: float | None = None


class ScalingFit(Record):
    """All forms on the same points, their tests, the exponent's interval and leave-largest-out predictions.

    ``n_dropped`` counts the points left out because N or the loss was not finite (or N not positive).
    ``preferred`` is the form of lowest AICc, given only when every form has one. ``comparisons`` are
    likelihood-ratio tests that need no AICc. ``extrapolation`` averages the forms' predictions.
    """

    n_params: tuple[float, ...]
    loss: tuple[float, ...]
    n_dropped: int
    forms: tuple[FormFit, ...]
    preferred: FormName | None
    exponent: ExponentInterval
    extrapolations: tuple[Extrapolation, ...]
    comparisons: tuple[FormComparison, ...]
    extrapolation: AveragedExtrapolation | None

    def form(self, name: FormName) -> FormFit:
        """Return one form's fit."""
        return next(found for found in self.forms if found.form == name)


@overload
def fit(n_params: ArrayLike, loss: ArrayLike, /) -> ScalingFit: ...
@overload
def fit(n_params: ArrayLike, n_tokens: ArrayLike, loss: ArrayLike, /) -> JointFit: ...
def fit(n_params: ArrayLike, *columns: ArrayLike) -> ScalingFit | JointFit:
    """Fit every form to loss against N, or the joint law to loss against N and D.

    Parameters
    ----------
    n_params : array_like, shape (n,)
        Parameter counts, one per budget (or run).
    n_tokens : array_like, shape (n,), optional
        Training tokens D; with them the joint law is fitted (`fit_joint`, which also takes the Huber delta).
    loss : array_like, shape (n,)
        Mean loss in nats (lower is better); without ``n_tokens`` it may be relative to a base rate.

    Returns
    -------
    ScalingFit or JointFit
        Points that are not finite are dropped and counted; too few points give typed statuses, not errors.

    Raises
    ------
    Fault
        When the arrays are not one-dimensional and of one length, or not two or three.

    Examples
    --------
    >>> found = fit([1e4, 1e5, 1e6, 1e7, 1e8], [1.0 + 5.0 * n**-0.3 for n in (1e4, 1e5, 1e6, 1e7, 1e8)])
    >>> found.exponent.status, round(found.exponent.estimate, 4)
    ('identified', 0.3)
    """
    if len(columns) == 2:
        return fit_joint(n_params, *columns)
    if len(columns) != 1:
        raise Fault(
            "fit", "be given n_params, loss or n_params, n_tokens, loss", f"{len(columns) + 1} arrays"
        )
    return _fit_size(np.asarray(n_params, dtype=np.float64), np.asarray(columns[0], dtype=np.float64))


def _fit_size(n: Floats, y: Floats) -> ScalingFit:
    if n.ndim != 1 or n.shape != y.shape:
        raise Fault("loss", f"have the shape of n_params, {n.shape}, in one dimension", y.shape)
    usable = np.isfinite(n) & np.isfinite(y) & (n > 0)
    kept_n, kept_y = n[usable], y[usable]
    forms = tuple(_fit_form(form, kept_n, kept_y) for form in N_PARAMETERS)
    return ScalingFit(
        n_params=tuple(kept_n.tolist()),
        loss=tuple(kept_y.tolist()),
        n_dropped=int((~usable).sum()),
        forms=forms,
        preferred=_preferred(forms),
        exponent=exponent_interval(kept_n, kept_y),
        extrapolations=leave_largest_out(kept_n, kept_y),
        comparisons=compare_forms(kept_n, kept_y),
        extrapolation=average_extrapolations(kept_n, kept_y),
    )


def _fit_form(form: FormName, n_params: Floats, loss: Floats) -> FormFit:
    n, k = len(n_params), N_PARAMETERS[form]
    if n < k:
        return FormFit(form=form, status="too_few_points", n_points=n)
    if form != "constant" and np.ptp(n_params) == 0:
        return FormFit(form=form, status="constant_n", n_points=n)
    if len(np.unique(n_params)) < k:
        return FormFit(form=form, status="too_few_levels", n_points=n)
    parameters, rss = _estimate(form, n_params, loss)
    return FormFit(
        form=form,
        status="ok",
        n_points=n,
        parameters=parameters,
        rss=rss,
        residual_variance=rss / (n - k) if n > k else None,
        aicc=_aicc(rss, n=n, k=k),
    )


def _estimate(form: FormName, n_params: Floats, loss: Floats) -> tuple[dict[str, float], float]:
    if form == "power_law":
        profile = profile_alpha(n_params, loss)
        return profile.parameters, float(profile.line.rss)
    return fit_polynomial(form, n_params, loss)


def _aicc(rss: float, *, n: int, k: int) -> float | None:
    n_estimated = k + 1
    if n <= n_estimated + 1 or rss <= 0:
        return None
    penalty = 2 * n_estimated * n / (n - n_estimated - 1)
    return float(n * np.log(rss / n) + penalty)


def _preferred(forms: tuple[FormFit, ...]) -> FormName | None:
    scored = [(found.aicc, found.form) for found in forms if found.aicc is not None]
    return min(scored)[1] if len(scored) == len(forms) else None
