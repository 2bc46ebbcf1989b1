"""What any model has to beat, on the same rows and from the same past.

n evaluated origins, h horizon, C target columns. Every forecast at an origin uses training rows, or what was
known at the origin.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault
from finscale.metrics import tables
from finscale.metrics.tables import Columns
from finscale.windows import plain_baselines as plain
from finscale.windows.data import WindowData
from finscale.windows.garch_forecasts import garch_probability, garch_quantiles
from finscale.windows.origins import origins_frame
from finscale.windows.past import EVALUATED, Forecast, Past
from finscale.windows.tasks import TaskKind, parse_task
from finscale.windows.trees import boosted_mean, boosted_probability

__all__ = ["BASELINES", "Baseline", "baseline_scores", "baseline_table"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
RowNumbers = NDArray[np.int64]
Baseline = Callable[[Past], Forecast]

_CHUNK = 2**22

BASELINES: dict[TaskKind, dict[str, Baseline]] = {
    "binary": {
        "base_rate": plain.base_rate,
        "trailing_base_rate": plain.trailing_base_rate,
        "logistic": plain.logistic,
        "garch": garch_probability,
        "hist_gradient_boosting": boosted_probability,
    },
    "regression": {
        "climatology": plain.training_mean,
        "last_value": plain.no_change,
        "linear": plain.linear,
        "hist_gradient_boosting": boosted_mean,
    },
    "quantile": {
        "climatology": plain.return_climatology,
        "scaled_climatology": plain.scaled_climatology,
        "garch": garch_quantiles,
    },
    "forecast": {"last_value": plain.last_row, "climatology": plain.mean_row},
    "classes": {"base_rate": plain.class_rates},
}


def baseline_table(data: WindowData, bars: pd.DataFrame) -> pd.DataFrame:
    """Forecast every origin of val_select, val_score and test by each baseline of the task's kind.

    Parameters
    ----------
    data : WindowData
    bars : DataFrame
        The canonical bars that the windows were built from.

    Returns
    -------
    DataFrame
        One row per origin and baseline, in the order of `BASELINES`: date (session), at (stamp of the bar),
        instrument ("" for a single one), split, baseline; then by kind

        - binary: probability, target, log_loss;
        - regression: prediction, target, squared_error, in scaled units;
        - quantile: q05 ... (at the scored horizon), target, pinball_loss (mean over the levels), scaled;
        - forecast: squared_error, absolute_error (means over steps and columns), in standardised units;
        - classes: log_loss_<column> of each target column, log_loss (their mean), accuracy;

        and note: what was left out or stood in, empty for the plain case.

    Raises
    ------
    Fault
        When the bars are not those of the windows, or a baseline has no forecast for an origin.
    """
    kind = parse_task(data.spec.task).kind
    past = Past(data, bars)
    _refuse_missing_prices(kind, bars)
    parts = [
        origins_frame(data, split).assign(
            split=split,
            baseline=name,
            **_COLUMNS[kind](past, data.origins[split], forecast.values[part]),
            note=forecast.note,
        )
        for name, baseline in BASELINES[kind].items()
        for forecast in [_complete(name, baseline(past))]
        for split, part in _parts(data).items()
    ]
    return pd.concat(parts, ignore_index=True)


def baseline_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per split and baseline: split, baseline, every score of its kind, n, and the note."""
    rows = [
        {
            "split": split,
            "baseline": baseline,
            **tables.scores(group),
            "note": "; ".join(group["note"].unique()),
        }
        for (split, baseline), group in table.groupby(["split", "baseline"], sort=False)
    ]
    return pd.DataFrame(rows).sort_values("split", key=_split_order, kind="stable", ignore_index=True)


def _refuse_missing_prices(kind: TaskKind, bars: pd.DataFrame) -> None:
    missing = sorted({"high", "low", "close"} - set(bars.columns))
    if missing and kind not in ("forecast", "classes"):
        rule = f"have the column {', '.join(missing)}, which baselines of a {kind} task read"
        raise Fault("bars", rule, f"only {', '.join(map(str, bars.columns))}", "use bars with all prices")


def _complete(name: str, forecast: Forecast) -> Forecast:
    n_origins = len(forecast.values)
    unknown = np.unique(np.argwhere(~np.isfinite(forecast.values))[:, 0])
    if len(unknown):
        got = f"none at {len(unknown)} of {n_origins} origins"
        raise Fault(f"baseline {name}", "forecast every origin", got, "look for bars without prices or scale")
    return forecast


def _parts(data: WindowData) -> dict[str, slice]:
    """Where each split that has origins lies among the evaluated ones."""
    counts = [len(data.origins[split]) for split in EVALUATED]
    ends = np.cumsum(counts).tolist()
    return {
        split: slice(end - count, end)
        for split, count, end in zip(EVALUATED, counts, ends, strict=True)
        if count
    }


def _binary_columns(past: Past, origins: RowNumbers, p: Vector) -> Columns:
    return tables.binary_columns(past.scored(origins), p)


def _regression_columns(past: Past, origins: RowNumbers, prediction: Vector) -> Columns:
    return tables.regression_columns(past.scored(origins), prediction)


def _quantile_columns(past: Past, origins: RowNumbers, quantiles: Matrix) -> Columns:
    return tables.quantile_columns(past.scored(origins), quantiles, past.data.spec.quantile_levels)


def _forecast_columns(past: Past, origins: RowNumbers, rows: Matrix) -> Columns:
    """Errors of one row (n, C) that is forecast for all of the h steps, a few origins at a time."""
    data, columns = past.data, plain.target_columns(past.data)
    steps = np.arange(1, data.spec.horizon + 1)
    n_chunks = 1 + len(origins) * len(steps) * data.n_features // _CHUNK
    parts = [
        tables.error_columns(
            data.values[at[:, None] + steps][..., columns].astype(np.float64) - said[:, None]
        )
        for at, said in zip(np.array_split(origins, n_chunks), np.array_split(rows, n_chunks), strict=True)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _classes_columns(past: Past, origins: RowNumbers, p: Matrix) -> Columns:
    spec, y = past.data.spec, past.data.targets[origins].astype(np.float64)
    return tables.classes_columns(y, p, names=spec.target_columns, n_classes=spec.n_classes)


_COLUMNS: dict[TaskKind, Callable[[Past, RowNumbers, NDArray[np.float64]], Columns]] = {
    "binary": _binary_columns,
    "regression": _regression_columns,
    "quantile": _quantile_columns,
    "forecast": _forecast_columns,
    "classes": _classes_columns,
}


def _split_order(splits: pd.Series) -> pd.Series:
    return splits.map(EVALUATED.index)
