"""Does a bigger model help, and how sure are we? One overall verdict, and one per horizon.

K budgets; the response of a budget is its mean excess loss (baseline - model, nats) over the horizons present
in every budget, so a loss that falls with size is a response that rises. The drop is that rise over the
measured range of N. Averaging horizons first keeps the size right whatever the correlation between them.
"""

from enum import StrEnum

import numpy as np
import pandas as pd
from scipy import stats

from finscale.core.budgets import format_budget
from finscale.core.config import Record
from finscale.core.multiplicity import holm
from finscale.scalinglaws.cells import CellMeans, Note, cell_means
from finscale.scalinglaws.exponent import ExponentInterval
from finscale.scalinglaws.fitting import ScalingFit, fit
from finscale.scalinglaws.power import detectable_drop
from finscale.scalinglaws.trend import SlopeTest, slope_test

__all__ = ["LEVEL", "MIN_BUDGETS", "ScalingVerdict", "Status", "TrendVerdict", "Verdict", "scaling_verdict"]

LEVEL = 0.05
MIN_BUDGETS = 3


class Verdict(StrEnum):
    """What the data say about size."""

    SCALING = "scaling"
    NO_DETECTABLE_SCALING = "no_detectable_scaling"
    INVERSE_SCALING = "inverse_scaling"
    NOT_ENOUGH_DATA = "not_enough_data"


class Status(StrEnum):
    """Whether the test could be made, and if not, why."""

    OK = "ok"
    TOO_FEW_BUDGETS = "too_few_budgets"
    NO_COMMON_HORIZON = "no_common_horizon"
    CONSTANT_N = "constant_n"
    TIES = "ties"
    NO_NOISE = "no_noise"


class TrendVerdict(Record):
    """The slope test of one response.

    Attributes
    ----------
    horizons : tuple of int
        Averaged into the response; one for a per-horizon verdict.
    budgets, n_params, excess_loss : tuple
        One entry per budget, ascending; N is the geometric mean over the horizons.
    slope, slope_se, intercept : float or None
        Nats of excess loss per decade of N; the response at the mean log10 N.
    slope_low, slope_high : float or None
        Two-sided 95 % t interval of the slope, not adjusted for the number of horizons.
    p_scaling, p_inverse : float or None
        One-sided; Holm-adjusted in per-horizon verdicts.
    drop, drop_lower, drop_upper : float or None
        Fall in loss from the smallest to the largest N, and its one-sided bounds, each at ``1 - bound_level``
        (5 %, shared out among the horizons in per-horizon verdicts).
    noise_sd : float or None
        SD of one budget's response about the line.
    detectable_drop : float or None
        The smallest drop this design calls ``scaling`` with 80 % power, were ``noise_sd`` the truth.
    """

    verdict: Verdict
    status: Status
    horizons: tuple[int, ...]
    budgets: tuple[str, ...]
    n_params: tuple[float, ...]
    excess_loss: tuple[float, ...]
    slope: float | None = None
    slope_se: float | None = None
    slope_low: float | None = None
    slope_high: float | None = None
    intercept: float | None = None
    df: int | None = None
    p_scaling: float | None = None
    p_inverse: float | None = None
    drop: float | None = None
    drop_lower: float | None = None
    drop_upper: float | None = None
    bound_level: float | None = None
    noise_sd: float | None = None
    detectable_drop: float | None = None


class ScalingVerdict(Record):
    """The overall verdict, the per-horizon verdicts and what limits them.

    Attributes
    ----------
    fit : ScalingFit
        Every form fitted to the overall response as a loss relative to the base rate (minus the excess).
    exponent : ExponentInterval
        Of that fit; an estimate is kept only under the verdict ``scaling``.
    seed_sd : float or None
        SD between seeds within a cell, pooled; None when every cell has one seed.
    extrapolation_error_sd : float or None
        The error of ``fit.extrapolation`` in ``seed_sd``.
    missing : tuple of str
        Cells of the (budget, horizon) matrix without a usable run.
    """

    split: str
    overall: TrendVerdict
    by_horizon: tuple[TrendVerdict, ...]
    fit: ScalingFit
    exponent: ExponentInterval
    n_cells: int
    n_cells_above_base_rate: int
    n_seeds: tuple[int, int]
    seed_sd: float | None
    extrapolation_error_sd: float | None
    n_dropped: int
    missing: tuple[str, ...]
    notes: tuple[Note, ...]


def scaling_verdict(cells: pd.DataFrame, *, split: str = "val_score") -> ScalingVerdict:
    """Give the verdict on a table of cell results.

    Parameters
    ----------
    cells : DataFrame
        One row per (cell, seed, split): n_budget, horizon, n_params (actual N of the winner), seed, split,
        excess_loss (baseline - model on the same rows, nats), and optionally outcome.
    split : str
        Rows that count: ``val_score``, or ``test`` for the secondary verdict.

    Returns
    -------
    ScalingVerdict
        Few cells, failed or non-finite runs, ties, one seed and losses above the base rate are statuses and
        notes in it, never exceptions.

    Raises
    ------
    Fault
        When a column is missing.
    """
    means = cell_means(cells, split=split)
    overall = _overall(means.table)
    fitted = fit(overall.n_params, tuple(-value for value in overall.excess_loss))
    exponent = fitted.exponent
    if overall.verdict is not Verdict.SCALING and exponent.status == "identified":
        exponent = exponent.model_copy(update={"status": "unidentified", "estimate": None})
    coverage = _coverage(means)
    return ScalingVerdict(
        split=split,
        overall=overall,
        by_horizon=_by_horizon(means.table),
        fit=fitted,
        exponent=exponent,
        extrapolation_error_sd=_in_sd(fitted, coverage["seed_sd"]),
        **coverage,
    )


def _in_sd(fitted: ScalingFit, seed_sd: float | None) -> float | None:
    return fitted.extrapolation.error / seed_sd if fitted.extrapolation and seed_sd else None


def _coverage(means: CellMeans) -> dict:
    table = means.table
    seeds = table["n_seeds"]
    return {
        "n_cells": len(table),
        "n_cells_above_base_rate": int((table["excess_loss"] < 0).sum()),
        "n_seeds": (int(seeds.min()), int(seeds.max())) if len(table) else (0, 0),
        "seed_sd": _pooled_sd(table),
        "n_dropped": means.n_dropped,
        "missing": _missing(table),
        "notes": means.notes,
    }


def _pooled_sd(table: pd.DataFrame) -> float | None:
    repeated = table[table["n_seeds"] > 1]
    if repeated.empty:
        return None
    weights = repeated["n_seeds"].to_numpy() - 1
    return float(np.sqrt(np.average(repeated["seed_variance"].to_numpy(), weights=weights)))


def _missing(table: pd.DataFrame) -> tuple[str, ...]:
    present = set(zip(table["n_budget"], table["horizon"], strict=True))
    budgets, horizons = sorted(set(table["n_budget"])), sorted(set(table["horizon"]))
    absent = [(n, h) for n in budgets for h in horizons if (n, h) not in present]
    return tuple(f"{format_budget(int(n))}_h{int(h)}" for n, h in absent)


def _overall(table: pd.DataFrame) -> TrendVerdict:
    n_budgets = table["n_budget"].nunique()
    counts = table.groupby("horizon")["n_budget"].nunique()
    shared = counts.index[counts == n_budgets]
    if n_budgets and not len(shared):
        empty = TrendVerdict(
            verdict=Verdict.NOT_ENOUGH_DATA,
            status=Status.NO_COMMON_HORIZON,
            horizons=(),
            budgets=(),
            n_params=(),
            excess_loss=(),
        )
        return empty
    return _judge(table[table["horizon"].isin(shared)])


def _by_horizon(table: pd.DataFrame) -> tuple[TrendVerdict, ...]:
    """Judge every horizon on all of its budgets, then adjust for their number."""
    horizons = sorted(set(table["horizon"]))
    found = [_judge(table[table["horizon"] == horizon], n_tests=len(horizons)) for horizon in horizons]
    rising = iter(holm([trend.p_scaling for trend in found if trend.p_scaling is not None]).tolist())
    falling = iter(holm([trend.p_inverse for trend in found if trend.p_inverse is not None]).tolist())
    return tuple(
        trend if trend.p_scaling is None else _with_p_values(trend, next(rising), next(falling))
        for trend in found
    )


def _judge(table: pd.DataFrame, *, n_tests: int = 1) -> TrendVerdict:
    """Average the horizons of ``table`` within each budget and test the slope."""
    rows = table.groupby("n_budget")[["log10_n", "excess_loss"]].mean()
    log10_n, response = rows["log10_n"].to_numpy(), rows["excess_loss"].to_numpy()
    base = TrendVerdict(
        verdict=Verdict.NOT_ENOUGH_DATA,
        status=_status(log10_n),
        horizons=tuple(int(horizon) for horizon in sorted(set(table["horizon"]))),
        budgets=tuple(format_budget(int(n)) for n in rows.index),
        n_params=tuple((10**log10_n).tolist()),
        excess_loss=tuple(response.tolist()),
    )
    if base.status is not Status.OK:
        return base
    test = slope_test(log10_n, response)
    measured = base.model_copy(update=_measures(test, log10_n, response, bound_level=LEVEL / n_tests))
    return _with_p_values(measured, float(test.p_rise), float(test.p_fall))


def _status(log10_n: np.ndarray) -> Status:
    if len(log10_n) < MIN_BUDGETS:
        return Status.TOO_FEW_BUDGETS
    return Status.CONSTANT_N if np.ptp(log10_n) < 1e-9 else Status.OK


def _measures(test: SlopeTest, log10_n: np.ndarray, response: np.ndarray, *, bound_level: float) -> dict:
    slope, se, sigma = float(test.slope), float(test.slope_se), float(test.sigma)
    span = float(np.ptp(log10_n))
    exact = sigma <= 1e-12 * float(np.abs(response).max())
    line = {"slope": slope, "slope_se": se, "intercept": float(test.intercept), "df": test.df}
    drop = {"drop": slope * span, "noise_sd": sigma, "bound_level": bound_level}
    if exact:
        return line | drop | {"status": Status.TIES if slope == 0 else Status.NO_NOISE}
    reach = float(stats.t.isf(bound_level, test.df)) * se
    bounds = {"drop_lower": (slope - reach) * span, "drop_upper": (slope + reach) * span}
    low, high = test.interval(level=0.95)
    line |= {"slope_low": float(low), "slope_high": float(high)}
    return line | drop | bounds | {"detectable_drop": detectable_drop(log10_n, noise_sd=sigma)}


def _with_p_values(trend: TrendVerdict, p_scaling: float, p_inverse: float) -> TrendVerdict:
    verdict = Verdict.NO_DETECTABLE_SCALING
    if p_scaling <= LEVEL:
        verdict = Verdict.SCALING
    elif p_inverse <= LEVEL:
        verdict = Verdict.INVERSE_SCALING
    return trend.model_copy(update={"verdict": verdict, "p_scaling": p_scaling, "p_inverse": p_inverse})
