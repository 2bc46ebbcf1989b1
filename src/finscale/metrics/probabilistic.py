"""Scores of a forecast made of quantiles.

y outcomes (n,); q forecast quantiles (n, Q) at the levels tau (Q,), increasing, between 0 and 1.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finscale.core.errors import Fault

__all__ = [
    "INTERVALS",
    "N_PIT_BINS",
    "calibration",
    "calibration_error",
    "coverage",
    "crps",
    "crps_rows",
    "interval_width",
    "pinball_loss",
    "pinball_rows",
    "pit_rows",
    "pit_shares",
    "quantile_level",
    "quantile_name",
    "scores",
]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

INTERVALS = (50, 80, 90)
"""Central intervals that are reported, in per cent, where their two levels are forecast."""

N_PIT_BINS = 10
_FLAT = 1e-12


def quantile_name(level: float) -> str:
    """Return the column of a level.

    Examples
    --------
    >>> quantile_name(0.05), quantile_name(0.5), quantile_name(0.975)
    ('q05', 'q50', 'q97.5')
    """
    percent = round(100 * level, 6)
    return f"q{percent:02.0f}" if percent == round(percent) else f"q{percent:g}"


def quantile_level(name: str) -> float:
    """Return the level of a column that `quantile_name` named.

    Examples
    --------
    >>> quantile_level("q97.5")
    0.975
    """
    return round(float(name.removeprefix("q")) / 100, 8)


def pinball_rows(y: ArrayLike, q: ArrayLike, levels: Sequence[float]) -> Matrix:
    """Return the pinball loss max(tau e, (tau - 1) e), e = y - q, of each row and level (n, Q).

    Koenker and Bassett (1978); no factor 2.

    Examples
    --------
    >>> pinball_rows([1.0], [[0.0, 3.0]], [0.25, 0.75]).tolist()
    [[0.25, 0.5]]
    """
    outcomes, quantiles, taus = _checked(y, q, levels)
    errors = outcomes[:, None] - quantiles
    return np.maximum(taus * errors, (taus - 1) * errors)


def pinball_loss(y: ArrayLike, q: ArrayLike, levels: Sequence[float]) -> float:
    """Return the pinball loss, averaged over rows and levels."""
    return float(pinball_rows(y, q, levels).mean())


def crps_rows(y: ArrayLike, q: ArrayLike, levels: Sequence[float]) -> Vector:
    """Return the continuous ranked probability score of each row, from its quantiles.

    CRPS = 2 * integral of the pinball loss over tau (Gneiting and Ranjan 2011, eq. 7). Each level stands
    for the taus nearest to it, so that the even levels (i - 1/2) / Q give exactly the CRPS of the Q
    quantiles taken as an ensemble, which is twice the mean pinball loss. Few levels say little of the
    tails: compare only scores of equal levels.
    """
    return 2 * pinball_rows(y, q, levels) @ _cells(np.asarray(levels, dtype=np.float64))


def crps(y: ArrayLike, q: ArrayLike, levels: Sequence[float]) -> float:
    """Return the mean of `crps_rows`."""
    return float(crps_rows(y, q, levels).mean())


def coverage(y: ArrayLike, q: ArrayLike, levels: Sequence[float], *, percent: float) -> float:
    """Return the share of outcomes inside the central interval of ``percent``, its ends included."""
    outcomes, quantiles, taus = _checked(y, q, levels)
    low, high = _ends(quantiles, taus, percent)
    return float(((low <= outcomes) & (outcomes <= high)).mean())


def interval_width(q: ArrayLike, levels: Sequence[float], *, percent: float) -> float:
    """Return the mean width of the central interval of ``percent``, in the units of the quantiles."""
    quantiles = np.asarray(q, dtype=np.float64)
    _, quantiles, taus = _checked(np.zeros(len(quantiles)), quantiles, levels)
    low, high = _ends(quantiles, taus, percent)
    return float((high - low).mean())


def calibration(y: ArrayLike, q: ArrayLike, levels: Sequence[float]) -> Vector:
    """Return for each level (Q,) the share of outcomes at or below its quantile; ideally the level."""
    outcomes, quantiles, _ = _checked(y, q, levels)
    return (outcomes[:, None] <= quantiles).mean(axis=0)


def calibration_error(y: ArrayLike, q: ArrayLike, levels: Sequence[float]) -> float:
    """Return the mean distance between the levels and the shares of outcomes at or below their quantiles."""
    return float(np.abs(calibration(y, q, levels) - np.asarray(levels, dtype=np.float64)).mean())


def pit_rows(y: ArrayLike, q: ArrayLike, levels: Sequence[float]) -> Vector:
    """Return the probability integral transform of each row: the forecast distribution function at y.

    Uniform on (0, 1) where forecasts are calibrated (Dawid 1984; Diebold, Gunther and Tay 1998). Between two
    quantiles the distribution function is a line. Beyond the outermost it is what quantiles do not say, and
    is taken as an exponential tail through the last two; how much lies there is counted by `pit_shares`.

    Raises
    ------
    Fault
        Also for a single level, which has no shape.

    Examples
    --------
    >>> pit_rows([0.0, 1.5], [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]], [0.25, 0.5, 0.75]).tolist()
    [0.25, 0.625]
    """
    outcomes, quantiles, taus = _checked(y, q, levels)
    if len(taus) < 2:
        raise Fault("quantile levels", "be two at least for a distribution function", taus.tolist())
    below = (outcomes[:, None] >= quantiles).sum(axis=1)
    left = np.clip(below - 1, 0, len(taus) - 2)
    rows = np.arange(len(outcomes))
    low, high = quantiles[rows, left], quantiles[rows, left + 1]
    share = (outcomes - low) / np.maximum(high - low, _FLAT)
    inside = taus[left] + np.clip(share, 0, 1) * (taus[left + 1] - taus[left])
    lower = _tail(quantiles[:, 0] - outcomes, quantiles[:, 1] - quantiles[:, 0], taus[0], taus[1])
    upper = _tail(
        outcomes - quantiles[:, -1], quantiles[:, -1] - quantiles[:, -2], 1 - taus[-1], 1 - taus[-2]
    )
    return np.where(below == 0, lower, np.where(below == len(taus), 1 - upper, inside))


def pit_shares(y: ArrayLike, q: ArrayLike, levels: Sequence[float]) -> dict[str, float]:
    """Return the histogram of `pit_rows` and the counts of both tails.

    ``pit_0`` ... ``pit_9`` are shares of rows in ten equal bins, ideally 0.1 each; ``n_under`` and ``n_over``
    how many outcomes lie under the lowest and over the highest quantile.
    """
    outcomes, quantiles, _ = _checked(y, q, levels)
    bins = np.minimum((pit_rows(y, q, levels) * N_PIT_BINS).astype(np.int64), N_PIT_BINS - 1)
    shares = np.bincount(bins, minlength=N_PIT_BINS) / len(bins)
    named = {f"pit_{number}": float(share) for number, share in enumerate(shares)}
    under, over = outcomes < quantiles[:, 0], outcomes > quantiles[:, -1]
    return {**named, "n_under": float(under.sum()), "n_over": float(over.sum())}


def scores(y: ArrayLike, q: ArrayLike, levels: Sequence[float]) -> dict[str, float]:
    """Return every score: pinball_loss, crps, coverage and width of 50, 80 and 90 %, calibration by level and
    its error.

    An interval whose two levels are not among ``levels`` is left out.
    """
    found = {"pinball_loss": pinball_loss(y, q, levels), "crps": crps(y, q, levels)}
    for percent in _intervals(np.asarray(levels, dtype=np.float64)):
        found[f"coverage_{percent}"] = coverage(y, q, levels, percent=percent)
        found[f"width_{percent}"] = interval_width(q, levels, percent=percent)
    below = calibration(y, q, levels)
    shares = {f"below_{quantile_name(tau)}": float(s) for tau, s in zip(levels, below, strict=True)}
    error = calibration_error(y, q, levels)
    return {**found, **shares, "calibration_error": error, "n": float(np.size(y))}


def _tail(beyond: Vector, step: Vector, outer: float, inner: float) -> Vector:
    """The probability further out: ``outer`` at the last quantile, ``inner`` one ``step`` further in."""
    rate = np.log(inner / outer) / np.maximum(step, _FLAT)
    return outer * np.exp(-rate * np.maximum(beyond, 0))


def _cells(taus: Vector) -> Vector:
    """The share of (0, 1) that lies nearest to each level."""
    borders = np.r_[0.0, (taus[1:] + taus[:-1]) / 2, 1.0]
    return np.diff(borders)


def _intervals(taus: Vector) -> list[int]:
    return [percent for percent in INTERVALS if _columns(taus, percent) is not None]


def _ends(quantiles: Matrix, taus: Vector, percent: float) -> tuple[Vector, Vector]:
    columns = _columns(taus, percent)
    if columns is None:
        needed = f"{0.5 - percent / 200:g} and {0.5 + percent / 200:g}"
        raise Fault("quantile levels", f"hold {needed} for an interval of {percent} %", taus.tolist())
    return quantiles[:, columns[0]], quantiles[:, columns[1]]


def _columns(taus: Vector, percent: float) -> tuple[int, int] | None:
    ends = 0.5 + np.array([-1, 1]) * percent / 200
    at = np.abs(taus[:, None] - ends).argmin(axis=0)
    return (int(at[0]), int(at[1])) if np.allclose(taus[at], ends, rtol=0, atol=1e-9) else None


def _checked(y: ArrayLike, q: ArrayLike, levels: Sequence[float]) -> tuple[Vector, Matrix, Vector]:
    outcomes, quantiles = np.asarray(y, dtype=np.float64), np.asarray(q, dtype=np.float64)
    taus = np.asarray(levels, dtype=np.float64)
    inside = taus.ndim == 1 and taus.size > 0 and (taus > 0).all() and (taus < 1).all()
    if not inside or (np.diff(taus) <= 0).any():
        raise Fault("quantile levels", "increase between 0 and 1", taus.tolist())
    if outcomes.ndim != 1 or outcomes.size == 0 or quantiles.shape != (len(outcomes), len(taus)):
        shapes = f"shapes {outcomes.shape} and {quantiles.shape}, {len(taus)} levels"
        raise Fault("outcomes and quantiles", "be of shapes (n,) and (n, levels), n above 0", shapes)
    for name, values in (("outcomes", outcomes), ("quantiles", quantiles)):
        if not np.isfinite(values).all():
            raise Fault(name, "be finite numbers", f"{int((~np.isfinite(values)).sum())} that are not")
    return outcomes, quantiles, taus
