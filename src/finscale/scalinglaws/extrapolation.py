"""Leave the largest budget out, predict it, and see whether it lands inside the interval.

A form's predictive distribution comes from the likelihood: a held-out value y0 raises the residual sum of
squares by ``rise(y0)``, and ``sign(y0 - prediction) sqrt(df rise / RSS_min)`` is compared with Student's t on
df. For a polynomial that is the textbook t prediction; for the power law the rise is the least over every
alpha. The averaged band takes quantiles of the weighted mixture of the forms' distributions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from finscale.core.config import Record
from finscale.scalinglaws.exponent import profile_alpha
from finscale.scalinglaws.forms import (
    DEGREES,
    N_PARAMETERS,
    FormName,
    fit_line,
    polynomial_basis,
    power_basis,
)

__all__ = ["AveragedExtrapolation", "Extrapolation", "average_extrapolations", "leave_largest_out"]

Floats = NDArray[np.float64]
AVERAGED_FORMS: tuple[FormName, ...] = ("constant", "log_linear", "power_law")


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


class AveragedExtrapolation(Record):
    """The forms' predictions of the largest budget as one mixture.

    Attributes
    ----------
    weights : dict
        Weight of each form, summing to one.
    predicted, low, high : float
        Weighted mean of the predictions; quantiles of the mixture at ``level``.
    observed, error : float
        ``error = observed - predicted``, in nats.
    """

    n_params: float
    weights: dict[FormName, float]
    predicted: float
    low: float
    high: float
    level: float
    observed: float
    error: float
    inside: bool


@dataclass(frozen=True)
class _Predictive:
    """What a form expects at the held-out N, one entry per candidate curve.

    Attributes
    ----------
    rss, centre, spread : ndarray, shape (m,)
        Of the fit without the held-out point; its prediction; 1 + leverage at the held-out N.
    """

    rss: Floats
    centre: Floats
    spread: Floats
    df: int
    n: int

    @property
    def best(self) -> float:
        return float(self.centre[np.argmin(self.rss)])

    def interval(self, level: float) -> tuple[float, float]:
        slack = self.rss.min() * (1.0 + stats.f.ppf(level, 1, self.df) / self.df) - self.rss
        kept = slack >= 0
        half = np.sqrt(slack[kept] * self.spread[kept])
        return float((self.centre[kept] - half).min()), float((self.centre[kept] + half).max())

    def cdf(self, value: float) -> float:
        rise = (self.rss + (value - self.centre) ** 2 / self.spread).min() - self.rss.min()
        if rise <= 0:
            return 0.5
        away = np.sqrt(self.df * rise / self.rss.min()) if self.rss.min() > 0 else np.inf
        return float(stats.t.cdf(np.sign(value - self.best) * away, self.df))


def leave_largest_out(n_params: Floats, loss: Floats, *, level: float = 0.90) -> tuple[Extrapolation, ...]:
    """Predict the loss at the largest N from the rest, once per form that leaves a degree of freedom.

    Parameters
    ----------
    n_params, loss : ndarray, shape (n,)
        Finite. Forms with no degree of freedom on n - 1 points are left out; so is everything when the
        remaining N do not vary.
    """
    last = int(np.argmax(n_params)) if len(n_params) else 0
    where = {"n_params": float(n_params[last]), "observed": float(loss[last])} if len(n_params) else {}
    found = []
    for form, predictive in _predictives(n_params, loss).items():
        low, high = predictive.interval(level)
        outcome = _outcome(where["observed"], predictive.best, low, high)
        found.append(Extrapolation(form=form, level=level, **where, **outcome))
    return tuple(found)


def average_extrapolations(
    n_params: Floats, loss: Floats, *, level: float = 0.90
) -> AveragedExtrapolation | None:
    """Predict the loss at the largest N with the forms averaged; None where no form can predict.

    Notes
    -----
    Weights are ``exp(-BIC / 2)`` on the remaining points (Raftery 1995): AICc has no value for three or four
    points. The quadratic is left out: it tells overfitting inside the range and turns round outside it.
    """
    every = _predictives(n_params, loss)
    predictives = {form: every[form] for form in AVERAGED_FORMS if form in every}
    if not predictives:
        return None
    last = int(np.argmax(n_params))
    weights = _weights(predictives)
    tail = (1 - level) / 2
    low, high = (_quantile(predictives, weights, p) for p in (tail, 1 - tail))
    predicted = sum(weights[form] * predictives[form].best for form in predictives)
    return AveragedExtrapolation(
        n_params=float(n_params[last]),
        weights=weights,
        level=level,
        observed=float(loss[last]),
        **_outcome(float(loss[last]), predicted, low, high),
    )


def _outcome(observed: float, predicted: float, low: float, high: float) -> dict:
    return {
        "predicted": predicted,
        "low": low,
        "high": high,
        "error": observed - predicted,
        "inside": bool(low <= observed <= high),
    }


def _predictives(n_params: Floats, loss: Floats) -> dict[FormName, _Predictive]:
    if len(n_params) < 3:
        return {}
    kept = np.arange(len(n_params)) != int(np.argmax(n_params))
    n, y, target = n_params[kept], loss[kept], n_params[~kept]
    if np.ptp(n) == 0:
        return {}
    forms = [form for form, k in N_PARAMETERS.items() if min(len(y), len(np.unique(n)) + 1) > k]
    return {
        form: _curved(n, y, target) if form == "power_law" else _polynomial(form, n, y, target)
        for form in forms
    }


def _polynomial(form: FormName, n_params: Floats, loss: Floats, target: Floats) -> _Predictive:
    basis = polynomial_basis(n_params, DEGREES[form])
    there = polynomial_basis(n_params, DEGREES[form], at=target)[:, 0]
    coefficients = basis @ loss
    rss = ((loss - coefficients @ basis) ** 2).sum()
    spread = 1.0 + float(there @ there)
    df = len(loss) - N_PARAMETERS[form]
    return _Predictive(np.array([rss]), np.array([coefficients @ there]), np.array([spread]), df, len(loss))


def _curved(n_params: Floats, loss: Floats, target: Floats) -> _Predictive:
    """Every alpha in the profile is a candidate line in ``N**-alpha``."""
    alphas, reference = profile_alpha(n_params, loss).alpha, float(n_params.min())
    line = fit_line(power_basis(n_params, alphas, reference=reference), loss, nonnegative=True)
    there = power_basis(target, alphas, reference=reference)[:, 0]
    away = (there - line.centre) ** 2
    leverage = np.divide(away, line.leverage, out=np.zeros_like(away), where=line.leverage > 0)
    centre = line.intercept + line.slope * there
    df = len(loss) - N_PARAMETERS["power_law"]
    return _Predictive(line.rss, centre, 1.0 + 1.0 / len(loss) + leverage, df, len(loss))


def _weights(predictives: dict[FormName, _Predictive]) -> dict[FormName, float]:
    smallest = max(max(float(p.rss.min()) for p in predictives.values()) * 1e-12, 1e-300)
    bic = {
        form: p.n * np.log(max(float(p.rss.min()), smallest) / p.n) + N_PARAMETERS[form] * np.log(p.n)
        for form, p in predictives.items()
    }
    best = min(bic.values())
    relative = {form: float(np.exp((best - value) / 2)) for form, value in bic.items()}
    total = sum(relative.values())
    return {form: value / total for form, value in relative.items()}


def _quantile(
    predictives: dict[FormName, _Predictive], weights: dict[FormName, float], probability: float
) -> float:
    """Return the quantile of the mixture; it lies between those of its members."""
    level = abs(1 - 2 * probability)
    side = int(probability > 0.5)
    ends = [p.interval(level)[side] for p in predictives.values()]

    def excess(value: float) -> float:
        return sum(weights[form] * p.cdf(value) for form, p in predictives.items()) - probability

    low, high = min(ends), max(ends)
    if excess(low) >= 0 or excess(high) <= 0:
        return low if excess(low) >= 0 else high
    return float(optimize.brentq(excess, low, high))
