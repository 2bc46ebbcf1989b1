"""What the quantiles of one cell's test amount to: shares, coverage and skill, with intervals by dates.

Outcomes of neighbouring origins overlap for a horizon and volatility clusters, so that dates are resampled in
blocks, all origins of a date together. Seeds are averaged first: an interval speaks of dates, a range over
seeds of training. n dates.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from finscale.core.seeding import derive
from finscale.metrics.probabilistic import INTERVALS, quantile_level, quantile_name
from finscale.metrics.significance import DateBlockInterval, date_block_intervals
from finscale.metrics.tables import is_quantile
from finscale.training.quantile_tables import FORECASTS
from finscale.windows.regimes import REGIMES

__all__ = [
    "ALL",
    "CALIBRATED",
    "MODEL",
    "RAW",
    "REFERENCE",
    "Estimate",
    "QuantileEvidence",
    "gather_evidence",
    "interval_ends",
]

RAW, CALIBRATED, REFERENCE = "raw", "calibrated", "scaled climatology"
MODEL, ALL = FORECASTS[0], "all"
STRETCH: Final = 60
"""Origins that a fan shows: the last ones, however they look."""

_N_DRAWS = 1000
_DATES = ["label", "horizon", "regime", "date"]


class Estimate(NamedTuple):
    """A number and its 95 % interval, NaN where there are too few dates; ``at`` as in the table."""

    horizon: int
    at: float
    value: float
    low: float
    high: float

    @property
    def is_told(self) -> bool:
        """Whether there is an interval."""
        return not np.isnan(self.low)

    def excludes(self, value: float) -> bool:
        """Return whether ``value`` lies outside the interval; never without one."""
        return self.low > value or self.high < value


@dataclass(frozen=True, eq=False)
class QuantileEvidence:
    """One cell's test.

    Attributes
    ----------
    estimates : DataFrame
        ``measure`` (``share`` of outcomes at or below the quantile of level ``at``, ``coverage`` of the
        central interval of ``at`` per cent, ``skill`` against the scaled climatology), ``horizon``,
        ``regime`` (``all``, or a volatility regime of coverage), ``label`` (raw, calibrated, scaled
        climatology, climatology), ``at``, ``value``, ``low``, ``high``: NaN where there are too few dates.
    scores : DataFrame
        Of `finscale.training.quantile_tables.quantile_scores`, with ``label``.
    stretch : DataFrame
        The last `STRETCH` origins of the last fold, of the first instrument and seed; rows of
        `finscale.training.quantile_tables.quantile_rows`, with ``label``.
    n_apart : dict
        By horizon, how many test windows do not overlap.
    n_dates : int
    """

    estimates: pd.DataFrame
    scores: pd.DataFrame
    stretch: pd.DataFrame
    n_apart: dict[int, int]
    n_dates: int

    @property
    def horizons(self) -> tuple[int, ...]:
        """Trained horizons in bars, ascending."""
        return tuple(sorted(self.n_apart))

    @property
    def levels(self) -> tuple[str, ...]:
        """Columns of the quantiles, ascending."""
        return _quantiles(self.stretch)

    @property
    def intervals(self) -> tuple[int, ...]:
        """Per cent of the central intervals whose two ends are forecast."""
        return tuple(interval_ends(self.levels))

    @property
    def labels(self) -> tuple[str, ...]:
        """Who forecast."""
        return tuple(dict.fromkeys(self.scores["label"]))

    @property
    def judged(self) -> str:
        """What the model is judged by: its calibrated quantiles where it has them, which it predicts with."""
        return CALIBRATED if CALIBRATED in self.labels else RAW

    def of(self, measure: str, *, horizon: int | None = None, regime: str = ALL) -> pd.DataFrame:
        """Return the estimates of one measure, of one horizon or of all."""
        found = self.estimates
        found = found[(found["measure"] == measure) & (found["regime"] == regime)]
        return found if horizon is None else found[found["horizon"] == horizon]

    def judge(self, measure: str, *, label: str | None = None) -> list[Estimate]:
        """Return the estimates of one measure of what is judged, or of ``label``."""
        table = self.of(measure)
        own = table[table["label"] == (label or self.judged)].sort_values(["horizon", "at"])
        return [Estimate(*row) for row in own[list(Estimate._fields)].itertuples(index=False, name=None)]


def gather_evidence(
    rows: pd.DataFrame, scores: pd.DataFrame, *, seed: int, n_draws: int = _N_DRAWS
) -> QuantileEvidence:
    """Count the rows of one cell and resample their dates.

    Parameters
    ----------
    rows, scores : DataFrame
        Of `finscale.training.quantile_tables`; at least one row.
    seed, n_draws : int
        Of the bootstrap.
    """
    labelled, counts = rows.assign(label=_labels(rows)), _counts(rows)
    per_date = _origins_per_date(rows)
    frames = []
    for horizon in sorted(map(int, rows["horizon"].unique())):
        own = counts[counts["horizon"] == horizon]
        bootstrap = {
            "horizon": int(np.ceil(horizon / per_date)),
            "seed": derive(seed, "quantiles", horizon),
            "n_draws": min(n_draws, _N_DRAWS),
        }
        frames += [found.assign(horizon=horizon) for found in _estimates(own, bootstrap)]
    n_stamps = rows["at"].nunique()
    return QuantileEvidence(
        estimates=pd.concat(frames, ignore_index=True),
        scores=scores.assign(label=_labels(scores)),
        stretch=_stretch(labelled),
        n_apart={int(horizon): -(-n_stamps // int(horizon)) for horizon in rows["horizon"].unique()},
        n_dates=rows["date"].nunique(),
    )


def _labels(table: pd.DataFrame) -> pd.Series:
    said = table["forecast"].str.replace("_", " ")
    return said.mask(table["forecast"] == MODEL, table["calibrated"].map({True: CALIBRATED, False: RAW}))


def _quantiles(table: pd.DataFrame) -> tuple[str, ...]:
    return tuple(sorted(filter(is_quantile, table.columns), key=quantile_level))


def interval_ends(levels: tuple[str, ...]) -> dict[int, tuple[str, str]]:
    """Return, by per cent, the columns of both ends of every central interval whose ends are forecast."""
    named = {percent: (50 - percent / 2, 50 + percent / 2) for percent in INTERVALS}
    ends = {p: (quantile_name(low / 100), quantile_name(high / 100)) for p, (low, high) in named.items()}
    return {percent: pair for percent, pair in ends.items() if set(pair) <= set(levels)}


def _origins_per_date(rows: pd.DataFrame) -> float:
    """How many origins of an instrument a date usually has: 1 of daily bars, at most as many as its bars."""
    return float(rows.groupby(["date", "instrument"], observed=True)["at"].nunique().median())


def _counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows, losses and hits by label, horizon, regime and date, averaged over seeds."""
    y, levels = rows["target"], _quantiles(rows)
    found = {"n": 1.0, "loss": rows["pinball_loss"]}
    found |= {f"share {name}": (y <= rows[name]).astype(float) for name in levels}
    found |= {
        f"coverage {percent}": y.between(rows[low], rows[high]).astype(float)
        for percent, (low, high) in interval_ends(levels).items()
    }
    keys = {name: rows[name] for name in _DATES[1:]} | {"label": _labels(rows)}
    groups = pd.DataFrame({**keys, **found, "seed": rows["seed"]}).groupby(_DATES, observed=True)
    seeds = groups["seed"].nunique().clip(lower=1)
    return groups[list(found)].sum().div(seeds, axis=0).reset_index()


def _estimates(counts: pd.DataFrame, bootstrap: dict[str, int]) -> list[pd.DataFrame]:
    """Every estimate of one horizon: shares, coverage, skill; coverage once more within each regime."""
    by_date = pd.DataFrame(counts.groupby(["label", "date"]).sum(numeric_only=True))
    hits = [name for name in counts.columns if name.startswith(("share ", "coverage "))]
    covered = [name for name in hits if name.startswith("coverage ")]
    found = [_shares(by_date, hits, bootstrap).assign(regime=ALL), _skill(by_date, bootstrap)]
    for regime in (name for name in REGIMES if covered and (counts["regime"] == name).any()):
        own = counts[counts["regime"] == regime].set_index(["label", "date"])
        found.append(_shares(own, covered, bootstrap).assign(regime=regime))
    return found


def _shares(by_date: pd.DataFrame, hits: list[str], bootstrap: dict[str, int]) -> pd.DataFrame:
    """The share of rows that are hits, a row per label and kind of hit."""
    sums = pd.DataFrame(by_date[hits].unstack("label").fillna(0))
    n_rows = by_date["n"].unstack("label").fillna(0)
    counts = pd.DataFrame({column: n_rows[column[1]] for column in sums.columns})
    found = _ratios(sums, counts, bootstrap)
    names = found["of"].str[0].str.split(" ", n=1)
    at = names.str[1].map(lambda name: quantile_level(name) if is_quantile(name) else float(name))
    return found.assign(measure=names.str[0], at=at, label=found["of"].str[1]).drop(columns="of")


def _skill(by_date: pd.DataFrame, bootstrap: dict[str, int]) -> pd.DataFrame:
    losses = pd.DataFrame(by_date["loss"].unstack("label")).dropna()
    reference = losses[REFERENCE]
    gains = losses.drop(columns=REFERENCE).rsub(reference, axis=0)
    found = _ratios(gains, pd.DataFrame(dict.fromkeys(gains.columns, reference)), bootstrap)
    return found.rename(columns={"of": "label"}).assign(measure="skill", at=np.nan, regime=ALL)


def _ratios(sums: pd.DataFrame, counts: pd.DataFrame, bootstrap: dict[str, int]) -> pd.DataFrame:
    """Return sum / count of every column with its 95 % interval by blocks of dates.

    To first order a ratio moves with the mean of ``(sum - ratio * count) / mean count``, whose mean is 0 and
    whose own autocorrelation sets the length of the blocks.
    """
    values = sums.sum() / counts.sum()
    influence = (sums - counts * values) / counts.mean()
    found = date_block_intervals(influence, **bootstrap)
    rows = [{"of": name, **_around(float(values[name]), found[name])} for name in sums.columns]
    return pd.DataFrame(rows)


def _around(value: float, found: DateBlockInterval) -> dict[str, float]:
    low, high = (np.nan if end is None else value + end for end in (found.low, found.high))
    return {"value": value, "low": low, "high": high}


def _stretch(rows: pd.DataFrame) -> pd.DataFrame:
    """The last origins of one instrument and seed, chosen by no result."""
    last = rows[rows["fold"] == rows["fold"].max()]
    own = last[last["instrument"] == last["instrument"].min()]
    own = own[own["seed"].isna() | (own["seed"] == own["seed"].min())]
    kept = np.sort(own["at"].unique())[-STRETCH:]
    return own[own["at"].isin(kept)].sort_values(["label", "horizon", "at"]).reset_index(drop=True)
