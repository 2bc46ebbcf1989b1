"""Forecast quantiles of a known law, with faults that can be planted: what was planted has to be read off."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import norm

from finscale.metrics import tables
from finscale.training.quantile_tables import quantile_scores

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
TRUTH = norm.ppf(LEVELS)


def quantile_tables(
    *,
    spread: float | Callable[[np.ndarray], np.ndarray] = 1.0,
    shift: float = 0.0,
    calibrated: bool = True,
    climate: float = 1.3,
    levels: tuple[float, ...] = LEVELS,
    horizons: tuple[int, ...] = (1, 3),
    n_seeds: int = 2,
    n_dates: int = 400,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows and scores: raw quantiles ``spread`` times as wide as the truth and moved by ``shift``.

    Calibrated ones are the truth; the scaled climatology is ``climate`` times as wide. ``spread`` may depend
    on the volatility. Targets are sums of ``horizon`` shocks that overlap, as returns do; shocks are the
    normal quantiles in a random order.
    """
    rng = np.random.default_rng(11)
    dates = pd.bdate_range("2017-01-02", periods=n_dates)
    volatility = 0.01 * np.exp(0.5 * np.sin(np.arange(n_dates) / 25))
    shocks = norm.ppf((rng.permutation(n_dates + max(horizons)) + 0.5) / (n_dates + max(horizons)))
    wide = spread(volatility) if callable(spread) else np.full(n_dates, spread)
    frames = []
    for horizon in horizons:
        y = np.convolve(shocks, np.ones(horizon), "valid")[:n_dates]
        for facts, scale, moved in _said(wide, shift, climate, n_seeds, calibrated):
            quantiles = np.sqrt(horizon) * (scale[:, None] * norm.ppf(levels) + moved)
            origin = {"date": dates, "at": dates, "instrument": "SPX", "volatility": volatility}
            columns = {
                **origin,
                "regime": _regimes(volatility),
                **tables.quantile_columns(y, quantiles, levels),
            }
            frames.append(pd.DataFrame({**facts, "fold": 0, "horizon": horizon, **columns}))
    rows = pd.concat(frames, ignore_index=True).astype({"seed": "Int64"})
    return rows, quantile_scores(rows)


def _said(wide, shift, climate, n_seeds, calibrated):
    even = np.ones(len(wide))
    for seed in range(n_seeds):
        noisy = wide * (1 + 0.01 * seed)
        yield {"forecast": "model", "seed": seed, "calibrated": False}, noisy, shift
        if calibrated:
            yield {"forecast": "model", "seed": seed, "calibrated": True}, even, 0.0
    for name, scale in (("climatology", 1.5 * climate), ("scaled_climatology", climate)):
        yield {"forecast": name, "seed": pd.NA, "calibrated": False}, scale * even, 0.0


def _regimes(volatility):
    borders = np.quantile(volatility, [1 / 3, 2 / 3])
    return np.array(["low", "middle", "high"])[np.searchsorted(borders, volatility, side="right")]
