"""Quantiles of the test at every trained horizon, raw and calibrated, beside climatology; and their scores.

A row of the first table is one forecast of one return. Quantiles, targets and losses are in σ, the trailing
volatility of one bar's log return at the origin: times ``volatility`` they are log returns.
n test origins, H trained horizons, Q levels.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.metrics import probabilistic, tables
from finscale.metrics.probabilistic import quantile_level
from finscale.training.winner import SeedRun
from finscale.windows.data import WindowData
from finscale.windows.origins import ORIGIN, origins_frame
from finscale.windows.plain_baselines import return_climatologies, scaled_climatologies
from finscale.windows.regimes import REGIMES, volatility_regimes
from finscale.windows.tasks import parse_task

__all__ = ["FORECASTS", "quantile_rows", "quantile_scores"]

MODEL, REFERENCE = "model", "scaled_climatology"
_CLIMATOLOGIES = {"climatology": return_climatologies, REFERENCE: scaled_climatologies}
FORECASTS: Final = (MODEL, *_CLIMATOLOGIES)
_ALL = "all"
_KEYS = ("forecast", "seed", "fold", "calibrated", "horizon")
_GROUP = ["forecast", "seed", "calibrated", "horizon"]

Array = NDArray[np.float64]


def quantile_rows(runs: Sequence[SeedRun], folds: Sequence[WindowData]) -> pd.DataFrame:
    """Return every forecast of a test return at every trained horizon.

    Parameters
    ----------
    runs : sequence of SeedRun
        Every seed on every fold; those that did not complete say nothing.
    folds : sequence of WindowData
        Windows by fold.

    Returns
    -------
    DataFrame
        ``forecast`` (`FORECASTS`), ``seed`` (none of a climatology), ``fold``, ``calibrated``, ``horizon`` in
        bars; ``date``, ``at``, ``instrument`` of the origin; ``volatility``, ``regime``
        (`finscale.windows.regimes`); ``q05`` ..., ``target``, ``pinball_loss``. No rows unless the task is
        ``quantile``.
    """
    asked = [data for data in folds if parse_task(data.spec.task).kind == "quantile"]
    frames = [frame for data in asked for frame in _of_fold(runs, data)]
    if not frames:
        return pd.DataFrame(columns=[*_KEYS, *ORIGIN, "volatility", "regime"])
    return pd.concat(frames, ignore_index=True).astype({"seed": "Int64"})


def quantile_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Score what `quantile_rows` returned, folds together.

    Returns
    -------
    DataFrame
        One row per ``forecast``, ``seed``, ``calibrated``, ``horizon`` and ``regime`` (``all`` and each
        volatility regime that has rows): every score of `finscale.metrics.probabilistic.scores`; the PIT
        histogram and tail counts of `finscale.metrics.probabilistic.pit_shares`, where there are two levels;
        and ``skill``, 1 less the pinball loss over that of the scaled climatology on the same rows.
    """
    if rows.empty:
        return pd.DataFrame(columns=[*_GROUP, "regime", "n"])
    found = pd.DataFrame([row for name in (_ALL, *REGIMES) for row in _scored(rows, name)])
    keys = ["horizon", "regime"]
    reference = found[found["forecast"] == REFERENCE].set_index(keys)["pinball_loss"]
    losses = reference.reindex(pd.MultiIndex.from_frame(found[keys])).to_numpy()
    scored = found.assign(skill=1 - found["pinball_loss"] / losses).astype({"seed": "Int64"})
    return scored.sort_values([*_GROUP, "regime"], key=_in_order, kind="stable", ignore_index=True)


def _of_fold(runs: Sequence[SeedRun], data: WindowData) -> Iterator[pd.DataFrame]:
    """The forecasts of one fold, a table per forecast and horizon."""
    rows, y = data.origins["test"], data.targets_at("test").astype(np.float64)
    origins = origins_frame(data, "test").assign(
        volatility=data.scale[rows].astype(np.float64), regime=volatility_regimes(data, rows)
    )
    for facts, quantiles in _said(runs, data):
        for place, horizon in enumerate(data.spec.horizons):
            keys = {**facts, "fold": data.spec.fold, "horizon": horizon}
            columns = tables.quantile_columns(y[:, place], quantiles[:, place], data.spec.quantile_levels)
            yield origins.assign(**keys, **columns)[[*_KEYS, *origins.columns, *columns]]


def _said(runs: Sequence[SeedRun], data: WindowData) -> Iterator[tuple[dict[str, Any], Array]]:
    """Who said which quantiles (n, H, Q) of the test: every run, raw and calibrated; the climatologies."""
    for run in (run for run in runs if run.spec.fold == data.spec.fold and run.evaluation):
        facts, raw = {"forecast": MODEL, "seed": run.spec.seed}, _raw(run, data)
        yield {**facts, "calibrated": False}, raw
        if run.calibration is not None:
            yield {**facts, "calibrated": True}, run.calibration.apply(raw)
    for name, climatologies in _CLIMATOLOGIES.items():
        quantiles = climatologies(data, data.origins["test"])
        yield {"forecast": name, "seed": pd.NA, "calibrated": False}, quantiles


def _raw(run: SeedRun, data: WindowData) -> Array:
    assert run.evaluation is not None
    by_horizon = run.evaluation.rows["test"].by_horizon
    levels = data.spec.quantile_levels
    return np.stack([tables.quantile_matrix(columns, levels) for columns in by_horizon], axis=1)


def _scored(rows: pd.DataFrame, regime: str) -> Iterator[dict[str, Any]]:
    asked = rows if regime == _ALL else rows[rows["regime"] == regime]
    names = [name for name in rows.columns if tables.is_quantile(name)]
    levels = [quantile_level(name) for name in names]
    for key, group in asked.groupby(_GROUP, sort=False, dropna=False):
        y, quantiles = group["target"].to_numpy(), group[names].to_numpy()
        shape = probabilistic.pit_shares(y, quantiles, levels) if len(levels) > 1 else {}
        yield {
            **dict(zip(_GROUP, key, strict=True)),
            "regime": regime,
            **probabilistic.scores(y, quantiles, levels),
            **shape,
        }


def _in_order(column: pd.Series) -> pd.Series:
    known = {"forecast": FORECASTS, "regime": (_ALL, *REGIMES)}.get(str(column.name))
    return column if known is None else column.map(known.index)
