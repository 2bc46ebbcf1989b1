"""Leave the largest budget out, predict it, and see whether it lands inside the interval.

The interval is the likelihood prediction interval: the held-out values y0 whose inclusion raises the residual
sum of squares by no more than ``F_{level}(1, df) / df`` of its minimum. For a line it is the t interval;
for the power law it is the union over every alpha in the profile.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from finscale.core.config import Record
from finscale.scalinglaws.exponent import profile_alpha
from finscale.scalinglaws.forms import N_PARAMETERS, FormName, Line, fit_line, power_basis

__all__ = ["Extrapolation", "leave_largest_out"]

Floats = NDArray[np.float64]


class Extrapolation(Record):
    """A form's prediction of the largest budget from all the others.

    Attributes
    ----------
    n_params : float
        N of the held-out budget.
    predicted, observed, error : float
        Loss; ``error = observed - predicted``.
    low, high : float
        Prediction interval at ``level``.
    inside : bool
        Whether ``observed`` lies in it.
    """

    form: FormName
    n_params: float
    predicted: float
    low: float
    high: float
    level: float
    observed: float
    error: float
    inside: bool


def leave_largest_out(n_params: Floats, loss: Floats, *, level: float = 0.90) -> tuple[Extrapolation, ...]:
    """Predict the loss at the largest N from the rest, once per form that leaves a degree of freedom.

    Parameters
    ----------
    n_params, loss : ndarray, shape (n,)
        Finite. Forms with no degree of freedom on n - 1 points are left out; so is everything when the
        remaining N do not vary.
    """
    last = int(np.argmax(n_params))
    kept = np.arange(len(n_params)) != last
    if kept.sum() < 2 or np.ptp(n_params[kept]) == 0:
        return ()
    forms = [form for form, k in N_PARAMETERS.items() if kept.sum() > k]
    return tuple(_predict(form, n_params, loss, last=last, level=level) for form in forms)


def _predict(form: FormName, n_params: Floats, loss: Floats, *, last: int, level: float) -> Extrapolation:
    kept = np.arange(len(n_params)) != last
    basis, target = _bases(form, n_params, loss, last=last)
    line = fit_line(basis[:, kept], loss[kept], nonnegative=form == "power_law")
    df = int(kept.sum()) - N_PARAMETERS[form]
    predicted, low, high = _interval(line, target, n=int(kept.sum()), df=df, level=level)
    observed = float(loss[last])
    return Extrapolation(
        form=form,
        n_params=float(n_params[last]),
        predicted=predicted,
        low=low,
        high=high,
        level=level,
        observed=observed,
        error=observed - predicted,
        inside=bool(low <= observed <= high),
    )


def _bases(form: FormName, n_params: Floats, loss: Floats, *, last: int) -> tuple[Floats, Floats]:
    """Return the candidate transforms of N, shape (n_candidates, n), and their values at the held-out N."""
    kept = np.arange(len(n_params)) != last
    if form == "power_law":
        alphas = profile_alpha(n_params[kept], loss[kept]).alpha
        basis = power_basis(n_params, alphas, reference=float(n_params.min()))
    else:
        row = np.zeros_like(n_params) if form == "constant" else np.log10(n_params)
        basis = row[None, :]
    return basis, basis[:, last]


def _interval(line: Line, target: Floats, *, n: int, df: int, level: float) -> tuple[float, float, float]:
    best = int(np.argmin(line.rss))
    slack = line.rss[best] * (1.0 + stats.f.ppf(level, 1, df) / df) - line.rss
    candidates = np.flatnonzero(slack >= 0)
    distance = (target - line.centre) ** 2
    spread = np.divide(distance, line.leverage, out=np.zeros_like(distance), where=line.leverage > 0)
    centre = line.intercept + line.slope * target
    half = np.sqrt(np.maximum(slack, 0.0) * (1.0 + 1.0 / n + spread))
    low, high = (centre - half)[candidates].min(), (centre + half)[candidates].max()
    return float(centre[best]), float(low), float(high)
