"""Is a model saying anything? Spread and calibration of its probabilities, and the flags they raise.

y outcomes in {0, 1}, p forecast probabilities, b base rate of the training windows. No torch.

A forecast is **constant** when the standard deviation of p is under 1e-4. That alone is no fault: on pure
noise the base rate *is* the right answer. It is **collapsed** when that constant is also not the base rate:
when KL(b || mean p), the price in nats of saying mean p where b holds, exceeds 0.002 (b = 0.5: 0.5 +- 0.03).

A *direction* forecast more than 0.012 nats below the base rate's loss on the same rows is
**suspicious_skill**: it is treated as a leak until explained.

Of quantiles the intervals are judged, at every trained horizon: see `finscale.training.interval_monitor`.
Every other answer has no such health: neither numbers nor flags.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finscale.metrics.classification import PROBABILITY_FLOOR, log_loss
from finscale.metrics.tables import quantile_matrix
from finscale.training.interval_monitor import horizon_health, interval_flags
from finscale.training.result import Flag
from finscale.training.scoring import Rows
from finscale.windows.data import WindowData

__all__ = [
    "CONSTANT_SPREAD",
    "MISPLACED_NATS",
    "SUSPICIOUS_NATS",
    "Health",
    "calibration_slope",
    "flags_of",
    "health_of",
    "spread",
    "spread_of",
]

CONSTANT_SPREAD = 1e-4
MISPLACED_NATS = 0.002
SUSPICIOUS_NATS = 0.012

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Health:
    """Spread, calibration slope and flags of one forecast; of quantiles the flags and the widest intervals.

    Attributes
    ----------
    width_shares, coverages : tuple of float
        Of the widest interval at each trained horizon: its mean width over that of the training quantiles,
        and the share of rows it covers; empty unless quantiles have one.
    """

    spread: float | None = None
    calibration_slope: float | None = None
    flags: tuple[Flag, ...] = ()
    width_shares: tuple[float, ...] = ()
    coverages: tuple[float, ...] = ()

    def scores(self) -> dict[str, float]:
        """Return the two numbers by name, a slope that does not exist as NaN; empty without probabilities."""
        if self.spread is None:
            return {}
        slope = self.calibration_slope
        return {"spread": self.spread, "calibration_slope": float("nan") if slope is None else slope}


def health_of(data: WindowData, rows: Rows) -> Health:
    """Return how the probabilities, or the intervals, in ``rows`` are, where they hold any."""
    if rows.by_horizon:
        return _interval_health(data, rows)
    p = rows.columns.get("probability")
    if p is None:
        return Health()
    y = rows.columns["target"]
    flags = flags_of(y, p, base_rate=data.base_rate, task=data.spec.task)
    return Health(spread(p), calibration_slope(y, p), flags)


def _interval_health(data: WindowData, rows: Rows) -> Health:
    levels, past = data.spec.quantile_levels, data.targets_at("train").astype(np.float64).T
    healths = [
        horizon_health(
            columns["target"],
            quantile_matrix(columns, levels),
            train=train,
            levels=levels,
            horizon=horizon,
        )
        for columns, train, horizon in zip(rows.by_horizon, past, data.spec.horizons, strict=True)
    ]
    return Health(
        flags=interval_flags(healths),
        width_shares=tuple(h.width_share for h in healths if h.width_share is not None),
        coverages=tuple(h.coverage for h in healths if h.coverage is not None),
    )


def spread_of(rows: Rows) -> float | None:
    """Return the spread of the probabilities in ``rows``; None where they hold none."""
    p = rows.columns.get("probability")
    return None if p is None else spread(p)


def spread(p: Vector) -> float:
    """Return the standard deviation of the probabilities."""
    return float(p.std())


def calibration_slope(y: Vector, p: Vector) -> float | None:
    """Return the slope of a logistic regression of y on logit(p): 1 is calibrated, under 1 overconfident.

    None where it does not exist: constant forecasts, one class only, or outcomes that logit(p) separates.

    References
    ----------
    Cox 1958, "Two further applications of a model for binary regression".
    """
    clipped = np.clip(p, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    logits = np.log(clipped) - np.log1p(-clipped)
    if spread(p) < CONSTANT_SPREAD or y.min() == y.max():
        return None
    design, weights = np.column_stack([np.ones_like(logits), logits]), np.zeros(2)
    for _ in range(50):
        fitted = 1 / (1 + np.exp(-np.clip(design @ weights, -500, 500)))
        hessian = design.T @ (design * (fitted * (1 - fitted))[:, None])
        if np.linalg.cond(hessian) > 1e12:
            return None
        change = np.linalg.solve(hessian, design.T @ (y - fitted))
        weights = weights + change
        if np.abs(change).max() < 1e-8:
            return float(weights[1])
    return None


def flags_of(y: Vector, p: Vector, *, base_rate: float, task: str) -> tuple[Flag, ...]:
    """Return the flags of one forecast of the rows y."""
    constant = spread(p) < CONSTANT_SPREAD
    misplaced = _divergence(base_rate, float(p.mean())) > MISPLACED_NATS
    skill = log_loss(y, np.full_like(y, base_rate)) - log_loss(y, p)
    found: list[tuple[Flag, bool]] = [
        ("collapsed", constant and misplaced),
        ("constant", constant and not misplaced),
        ("suspicious_skill", task == "direction" and skill > SUSPICIOUS_NATS),
    ]
    return tuple(flag for flag, raised in found if raised)


def _divergence(b: float, q: float) -> float:
    """KL(b || q) of two Bernoulli laws, in nats; 0 log 0 is 0."""
    q = min(max(q, PROBABILITY_FLOOR), 1 - PROBABILITY_FLOOR)
    positive = b * np.log(b / q) if b > 0 else 0.0
    negative = (1 - b) * np.log((1 - b) / (1 - q)) if b < 1 else 0.0
    return float(positive + negative)
