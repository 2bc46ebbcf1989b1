"""Excess loss against N: averaged over horizons, the picture of the overall verdict, or of one horizon."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy import stats

from finscale.metrics.significance import DateBlockInterval
from finscale.reporting.chart import blank, format_y_ticks, log_n_axis
from finscale.reporting.intervals import horizon_intervals, overall_intervals
from finscale.reporting.loss_figure import BARS, add_cells
from finscale.reporting.study import ReportInput
from finscale.reporting.template import BAND, FAINT, INK, MUTED, PALETTE, SURFACE
from finscale.scalinglaws.verdict import ScalingVerdict, TrendVerdict

__all__ = ["excess_against_n", "excess_axis", "horizon_excess"]


def excess_axis(study: ReportInput) -> str:
    """Return the title of an axis of excess losses."""
    return f"excess loss over the {study.measure.reference_words} ({study.measure.unit})"


def excess_against_n(study: ReportInput) -> go.Figure:
    """Draw the response of the overall verdict with its fitted line, baselines and single seeds."""
    trend = study.verdict.overall
    averaged = ", averaged over horizons" if len(trend.horizons) > 1 else ""
    figure = blank(
        f"Excess loss against model size{averaged}",
        x="parameters N (log scale)",
        y=excess_axis(study),
        caption=f"Higher is better; zero is the {study.measure.reference_words}. {_READ} {BARS} {_BAND}, "
        "whose slope the verdict tests. Dashed: baselines on the same rows. Open points: the test period.",
        height=440,
    )
    test = None if study.test_verdict is None else study.test_verdict.overall
    return _drawn(figure, study, trend, test, overall_intervals(study, split="val_score"))


def horizon_excess(study: ReportInput, *, horizon: int) -> go.Figure:
    """Draw the same for one horizon, whose verdict is Holm-adjusted."""
    trend = _of_horizon(study.verdict, horizon)
    words = "" if trend is None else trend.verdict.value.replace("_", " ")
    figure = blank(
        f"Excess loss against model size, horizon {horizon}",
        x="parameters N (log scale)",
        y=f"excess loss ({study.measure.unit})",
        caption=f"One panel per horizon, read as the figure above; each verdict is Holm-adjusted. {BARS}",
        note=f"Verdict: {words}." if words else "",
        height=300,
    )
    if trend is None:
        return figure
    test = None if study.test_verdict is None else _of_horizon(study.test_verdict, horizon)
    intervals = horizon_intervals(study, horizon=horizon, split="val_score")
    return _drawn(figure, study, trend, test, intervals).update_layout(showlegend=False)


_READ = "Filled points: the scoring half of validation, mean over seeds."
_BAND = "Band: 90 % confidence of the fitted line"


def _of_horizon(verdict: ScalingVerdict, horizon: int) -> TrendVerdict | None:
    return next((trend for trend in verdict.by_horizon if trend.horizons == (horizon,)), None)


def _drawn(
    figure: go.Figure,
    study: ReportInput,
    trend: TrendVerdict,
    test: TrendVerdict | None,
    intervals: dict[str, DateBlockInterval],
) -> go.Figure:
    if not trend.n_params:
        return figure
    _add_line(figure, trend)
    _add_baselines(figure, study, trend)
    _add_seeds(figure, study, trend)
    if test is not None and test.n_params:
        _add_test(figure, test)
    spans = [intervals.get(budget) for budget in trend.budgets]
    add_cells(figure, np.array(trend.n_params), np.array(trend.excess_loss), spans, names=trend.budgets)
    log_n_axis(figure, np.array(trend.n_params))
    return format_y_ticks(figure)


def _add_line(figure: go.Figure, trend: TrendVerdict) -> None:
    """Add the fitted line with the confidence band of its mean."""
    if trend.slope is None or trend.intercept is None or trend.df is None or trend.noise_sd is None:
        return
    log10_n = np.log10(trend.n_params)
    x = np.linspace(log10_n.min(), log10_n.max(), 60)
    mean = trend.intercept + trend.slope * (x - log10_n.mean())
    leverage = 1 / len(log10_n) + (x - log10_n.mean()) ** 2 / ((log10_n - log10_n.mean()) ** 2).sum()
    half = stats.t.isf(0.05, trend.df) * trend.noise_sd * np.sqrt(leverage)
    figure.add_scatter(
        x=np.concatenate([10**x, 10 ** x[::-1]]),
        y=np.concatenate([mean + half, (mean - half)[::-1]]),
        fill="toself",
        fillcolor=BAND,
        line={"width": 0},
        hoverinfo="skip",
        name="90 % band of the line",
    )
    line = {"color": PALETTE[0], "width": 1.2}
    figure.add_scatter(x=10**x, y=mean, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _mean_baselines(study: ReportInput, horizons: tuple[int, ...]) -> pd.Series:
    """Return the mean excess loss of the baselines that exist at every one of ``horizons``."""
    table = study.baselines
    rows = table[(table["split"] == "val_score") & table["horizon"].isin(horizons)]
    grouped = rows[rows["baseline"] != study.measure.reference].groupby("baseline")["excess_loss"]
    return grouped.mean()[grouped.count() == len(horizons)]


def _add_baselines(figure: go.Figure, study: ReportInput, trend: TrendVerdict) -> None:
    span = [min(trend.n_params) * 0.7, max(trend.n_params) * 1.4]
    line, zero = {"color": INK, "width": 1}, study.measure.reference_words
    figure.add_scatter(x=span, y=[0, 0], mode="lines", name=zero, line=line, hoverinfo="skip")
    for i, (name, value) in enumerate(_mean_baselines(study, trend.horizons).items()):
        figure.add_scatter(
            x=span,
            y=[value, value],
            mode="lines",
            name=str(name).replace("_", " "),
            line={"color": PALETTE[1 + i % (len(PALETTE) - 1)], "width": 1.4, "dash": "dash"},
            hovertemplate=f"{name}: %{{y:.4f}}<extra></extra>",
        )


def _add_seeds(figure: go.Figure, study: ReportInput, trend: TrendVerdict) -> None:
    """Add each seed's horizon average as a faint point."""
    cells = study.cells
    rows = cells[(cells["split"] == "val_score") & (cells["outcome"] == "complete")]
    rows = rows[rows["horizon"].isin(trend.horizons)].dropna(subset=["excess_loss"])
    by_seed = rows.groupby(["budget", "seed"])["excess_loss"].agg(["mean", "count"])
    complete = by_seed[by_seed["count"] == len(trend.horizons)].reset_index()
    place = dict(zip(trend.budgets, trend.n_params, strict=True))
    kept = complete[complete["budget"].isin(place)]
    figure.add_scatter(
        x=kept["budget"].map(place),
        y=kept["mean"],
        mode="markers",
        name="single seeds",
        marker={"size": 6, "color": FAINT, "opacity": 0.7},
        customdata=kept["seed"],
        hovertemplate="seed %{customdata}: %{y:.4f}<extra></extra>",
    )


def _add_test(figure: go.Figure, test: TrendVerdict) -> None:
    """Add the test period's points, a little to the right of the validation's."""
    marker = {"size": 9, "color": SURFACE, "line": {"width": 1.6, "color": MUTED}, "symbol": "diamond"}
    figure.add_scatter(
        x=np.array(test.n_params) * 1.05,
        y=test.excess_loss,
        mode="markers",
        name="test period",
        marker=marker,
        hovertemplate="test: %{y:.4f}<extra></extra>",
    )
