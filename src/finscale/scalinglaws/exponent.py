"""The exponent of E + A N**-alpha by variable projection: profile over alpha, E and A in closed form.

Golub and Pereyra (1973), "The differentiation of pseudo-inverses and nonlinear least squares problems
whose variables separate". The profile interval is that of Bates and Watts (1988), section 6.1: with n points,
``{alpha: RSS(alpha) <= RSS_min * (1 + F_{level}(1, n - 3) / (n - 3))}``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from finscale.core.config import Record
from finscale.scalinglaws.forms import ALPHA_BOUNDS, N_PARAMETERS, Line, fit_line, power_basis

__all__ = ["AlphaProfile", "ExponentInterval", "ExponentStatus", "exponent_interval", "profile_alpha"]

Floats = NDArray[np.float64]
ExponentStatus = Literal["identified", "unidentified", "too_few_budgets"]
MAX_HALF_WIDTH = 0.15
MIN_BUDGETS = 4
_GRID = np.linspace(*ALPHA_BOUNDS, 297)
_ROUND_OFF = 1e-24


@dataclass(frozen=True)
class AlphaProfile:
    """The residual sum of squares as a function of alpha.

    Attributes
    ----------
    alpha, rss : ndarray, shape (n_alpha,)
        The grid with the refined optimum inserted, ascending in alpha.
    best : float
        The refined optimum.
    line : Line
        E and A at ``best``, with A relative to ``reference``.
    reference : float
        The smallest N; ``A = line.slope * reference**best``.
    rss_at : callable
        RSS at any alpha.
    """

    alpha: Floats
    rss: Floats
    best: float
    line: Line
    reference: float
    rss_at: Callable[[float], float]

    @property
    def parameters(self) -> dict[str, float]:
        """E, A and alpha of the law in absolute N."""
        scale = float(self.line.slope) * self.reference**self.best
        return {"E": float(self.line.intercept), "A": scale, "alpha": self.best}


class ExponentInterval(Record):
    """What the data say about alpha.

    ``estimate`` is None unless ``status`` is ``identified``: an exponent the data cannot carry is not kept.
    ``low`` and ``high`` stop at the grid's ends (``ALPHA_BOUNDS``).
    """

    status: ExponentStatus
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.90
    df: int | None = None


def profile_alpha(n_params: Floats, loss: Floats) -> AlphaProfile:
    """Profile the power law over alpha on a grid, then refine the optimum between its neighbours.

    Parameters
    ----------
    n_params, loss : ndarray, shape (n,)
        Finite, n >= 2.
    """
    reference = float(n_params.min())

    def line_at(alpha: float) -> Line:
        return fit_line(power_basis(n_params, alpha, reference=reference), loss, nonnegative=True)

    def rss_at(alpha: float) -> float:
        return float(line_at(alpha).rss)

    rss = fit_line(power_basis(n_params, _GRID, reference=reference), loss, nonnegative=True).rss
    best = _refine(rss_at, rss)
    alphas = np.append(_GRID, best)
    order = np.argsort(alphas, kind="stable")
    line = line_at(best)
    values = np.append(rss, float(line.rss))
    return AlphaProfile(alphas[order], values[order], best, line, reference, rss_at)


def _refine(rss_at: Callable[[float], float], rss: Floats) -> float:
    i = int(np.argmin(rss))
    low, high = _GRID[max(i - 1, 0)], _GRID[min(i + 1, len(_GRID) - 1)]
    found = optimize.minimize_scalar(rss_at, bounds=(low, high), method="bounded", options={"xatol": 1e-10})
    return float(found.x) if found.fun < rss[i] else float(_GRID[i])


def profile_threshold(profile: AlphaProfile, *, loss: Floats, level: float, df: int) -> float:
    """Return the RSS under which an alpha is compatible with the data at ``level``."""
    round_off = _ROUND_OFF * float((loss**2).sum())
    return float(profile.rss.min()) * (1.0 + stats.f.ppf(level, 1, df) / df) + round_off


def exponent_interval(n_params: Floats, loss: Floats, *, level: float = 0.90) -> ExponentInterval:
    """Return the profile interval of alpha, and alpha itself if the data carry it.

    It is ``identified`` with at least four budgets, an interval strictly inside ``ALPHA_BOUNDS`` and a
    half-width under 0.15.
    """
    df = len(n_params) - N_PARAMETERS["power_law"]
    if len(np.unique(n_params)) < MIN_BUDGETS:
        return ExponentInterval(status="too_few_budgets", level=level)
    profile = profile_alpha(n_params, loss)
    threshold = profile_threshold(profile, loss=loss, level=level, df=df)
    low, high = _crossings(profile, threshold)
    inside = low > ALPHA_BOUNDS[0] and high < ALPHA_BOUNDS[1]
    known = inside and (high - low) / 2 < MAX_HALF_WIDTH and float(profile.line.slope) > 0
    status: ExponentStatus = "identified" if known else "unidentified"
    estimate = profile.best if known else None
    return ExponentInterval(status=status, estimate=estimate, low=low, high=high, level=level, df=df)


def _crossings(profile: AlphaProfile, threshold: float) -> tuple[float, float]:
    """Return the outermost alphas under the threshold; an end of the grid when it is never crossed."""
    inside = np.flatnonzero(profile.rss <= threshold)
    first, last = int(inside[0]), int(inside[-1])

    def above(alpha: float) -> float:
        return profile.rss_at(alpha) - threshold

    def cross(outside: int, within: int) -> float:
        if not 0 <= outside < len(profile.alpha):
            return float(profile.alpha[within])
        ends = float(profile.alpha[outside]), float(profile.alpha[within])
        return float(optimize.brentq(above, *ends)) if above(ends[1]) < 0 else ends[1]

    return cross(first - 1, first), cross(last + 1, last)
