"""Excess loss against N, averaged over horizons: the picture of the overall verdict."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy import stats

from finscale.reporting.chart import blank, format_y_ticks, log_n_axis
from finscale.reporting.intervals import BASE_RATE, overall_intervals
from finscale.reporting.loss_figure import BARS, add_cells
from finscale.reporting.study import ReportInput
from finscale.reporting.template import FAINT, INK, MUTED, PALETTE
from finscale.scalinglaws.verdict import TrendVerdict

__all__ = ["excess_against_n"]


def excess_against_n(study: ReportInput) -> go.Figure:
    """Draw the response of the overall verdict with its fitted line, baselines and single seeds."""
    trend = study.verdict.overall
    averaged = ", averaged over horizons" if len(trend.horizons) > 1 else ""
    figure = blank(
        f"Excess loss against model size{averaged}",
        x="parameters N (log scale)",
        y="excess loss over the base rate (nats)",
        caption="Higher is better; zero is the base rate. Filled points: the scoring half of validation, "
        f"mean over seeds. {BARS} Band: 90 % confidence of the fitted line, whose slope the verdict tests. "
        "Dashed: baselines on the same rows. Open points: the test period.",
        height=440,
    )
    if not trend.n_params:
        return figure
    _add_line(figure, trend)
    _add_baselines(figure, _mean_baselines(study, trend.horizons), trend)
    _add_seeds(figure, study, trend)
    _add_test(figure, study)
    intervals = overall_intervals(study, split="val_score")
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
        fillcolor="rgba(0,114,178,0.09)",
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
    grouped = rows[rows["baseline"] != BASE_RATE].groupby("baseline")["excess_loss"]
    return grouped.mean()[grouped.count() == len(horizons)]


def _add_baselines(figure: go.Figure, excess: pd.Series, trend: TrendVerdict) -> None:
    span = [min(trend.n_params) * 0.7, max(trend.n_params) * 1.4]
    line = {"color": INK, "width": 1}
    figure.add_scatter(x=span, y=[0, 0], mode="lines", name="base rate", line=line, hoverinfo="skip")
    for i, (name, value) in enumerate(excess.items()):
        figure.add_scatter(
            x=span,
            y=[value, value],
            mode="lines",
            name=str(name).replace("_", " "),
            line={"color": PALETTE[1 + i % (len(PALETTE) - 1)], "width": 1.4, "dash": "dash"},
            hovertemplate=f"{name}: %{{y:.4f}} nats<extra></extra>",
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
        hovertemplate="seed %{customdata}: %{y:.4f} nats<extra></extra>",
    )


def _add_test(figure: go.Figure, study: ReportInput) -> None:
    """Add the test period's points, a little to the right of the validation's."""
    test = None if study.test_verdict is None else study.test_verdict.overall
    if test is None or not test.n_params:
        return
    marker = {"size": 9, "color": "white", "line": {"width": 1.6, "color": MUTED}, "symbol": "diamond"}
    figure.add_scatter(
        x=np.array(test.n_params) * 1.05,
        y=test.excess_loss,
        mode="markers",
        name="test period",
        marker=marker,
        hovertemplate="test: %{y:.4f} nats<extra></extra>",
    )
