"""What the fitted curves leave over, how well the exponent is known, whether the largest budget was foreseen.

The response is the loss relative to the reference, averaged over horizons: minus the overall excess loss.
"""

import numpy as np
import plotly.graph_objects as go

from finscale.reporting.chart import blank, format_y_ticks, log_n_axis
from finscale.reporting.study import ReportInput
from finscale.reporting.template import BAND, INK, MUTED, PALETTE
from finscale.scalinglaws.exponent import profile_alpha
from finscale.scalinglaws.extrapolation import AveragedExtrapolation, Extrapolation
from finscale.scalinglaws.fitting import ScalingFit
from finscale.scalinglaws.forms import ALPHA_BOUNDS, predict_form

__all__ = ["alpha_profile", "held_out", "residuals"]

_MARKERS = ("circle", "square", "diamond", "triangle-up")
_MIN_PROFILED = 4
_FLAT = 1e-6


def residuals(study: ReportInput) -> go.Figure:
    """Draw what every fitted form leaves over, budget by budget."""
    fitted = study.verdict.fit
    figure = blank(
        "What the fitted curves leave over",
        x="parameters N (log scale)",
        y=f"observed - fitted ({study.measure.unit})",
        caption="One point per budget and form, averaged over horizons; above zero the loss is worse than "
        "the curve says. A U or an arch is a curve of the wrong shape; few points cannot show either.",
    )
    shown = [form for form in fitted.forms if form.status == "ok"]
    n, loss = np.array(fitted.n_params), np.array(fitted.loss)
    for i, form in enumerate(shown):
        left = loss - predict_form(form.form, form.parameters, n)
        figure.add_scatter(
            x=n * 1.02 ** (i - len(shown) / 2),
            y=left,
            mode="markers",
            name=form.form.replace("_", " "),
            marker={"size": 8, "color": PALETTE[i], "symbol": _MARKERS[i]},
            hovertemplate=f"{form.form}: %{{y:+.5f}}<extra></extra>",
        )
    if shown:
        figure.add_hline(y=0, line={"color": INK, "width": 1})
        log_n_axis(figure, n)
    return format_y_ticks(figure)


def alpha_profile(study: ReportInput) -> go.Figure | None:
    """Draw the profile of alpha with its interval; None with few budgets or a rising loss."""
    fitted, exponent = study.verdict.fit, study.verdict.exponent
    if len(set(fitted.n_params)) < _MIN_PROFILED or exponent.df is None:
        return None
    profile = profile_alpha(np.array(fitted.n_params), np.array(fitted.loss))
    least = float(profile.rss.min())
    if np.ptp(profile.rss) <= _FLAT * least:
        return None
    known = "identified" if exponent.estimate is not None else "not identified"
    figure = blank(
        "How well the exponent is known",
        x="exponent alpha of E + A N^-alpha",
        y="misfit relative to the best",
        caption="Profile likelihood: the least sum of squares at every alpha, over the least of all, minus "
        "one. The shaded alphas are compatible with the data at 90 %; an exponent is given only where they "
        "are few and end inside the axis.",
        note=f"The exponent is {known}.",
    )
    if least > 0:
        figure.add_scatter(
            x=profile.alpha, y=profile.rss / least - 1, mode="lines", line={"color": PALETTE[0], "width": 2}
        )
    if exponent.low is not None and exponent.high is not None:
        figure.add_vrect(x0=exponent.low, x1=exponent.high, fillcolor=BAND, line_width=0)
    figure.update_xaxes(range=list(ALPHA_BOUNDS))
    return figure.update_layout(showlegend=False)


def held_out(study: ReportInput) -> go.Figure | None:
    """Draw the largest budget beside what the smaller ones foretold; None where they foretell nothing."""
    fitted = study.verdict.fit
    if fitted.extrapolation is None:
        return None
    found = fitted.extrapolation
    figure = blank(
        "The largest budget, foretold by the others",
        x="parameters N (log scale)",
        y=f"loss relative to the {study.measure.reference_words} ({study.measure.unit})",
        caption="Lower is better. Bars: the 90 % interval for the largest budget that each form, fitted to "
        "the smaller budgets alone, would have given, and their average weighted by BIC.",
        note=f"The largest budget lies {'inside' if found.inside else 'outside'} the averaged interval.",
    )
    _add_measured(figure, fitted)
    _add_predictions(figure, fitted, found)
    log_n_axis(figure, np.array([*fitted.n_params, max(fitted.n_params) * 1.5]))
    return format_y_ticks(figure)


def _add_measured(figure: go.Figure, fitted: ScalingFit) -> None:
    largest = max(fitted.n_params)
    symbols = ["star" if n == largest else "circle" for n in fitted.n_params]
    figure.add_scatter(
        x=fitted.n_params,
        y=fitted.loss,
        mode="markers",
        name="measured (star: held out)",
        marker={"size": 11, "color": INK, "symbol": symbols},
        hovertemplate="N = %{x:.3s}: %{y:.5f}<extra></extra>",
    )


def _add_predictions(figure: go.Figure, fitted: ScalingFit, averaged: AveragedExtrapolation) -> None:
    """Add every form's interval, side by side to the right of the held-out point."""
    rows: list[tuple[str, Extrapolation | AveragedExtrapolation]] = [
        (found.form.replace("_", " "), found) for found in fitted.extrapolations
    ]
    for i, (name, found) in enumerate([*rows, ("average", averaged)]):
        colour = MUTED if name == "average" else PALETTE[i]
        reach = {"array": [found.high - found.predicted], "arrayminus": [found.predicted - found.low]}
        figure.add_scatter(
            x=[found.n_params * 1.08 ** (i + 1)],
            y=[found.predicted],
            mode="markers",
            name=name,
            marker={"size": 8, "color": colour, "symbol": "line-ew-open", "line": {"width": 2}},
            error_y={"type": "data", "color": colour, "thickness": 2, "width": 4, **reach},
            hovertemplate=f"{name}: %{{y:.5f}}<extra></extra>",
        )
