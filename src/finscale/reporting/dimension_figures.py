"""Which dimensions of a search mattered, and which combinations did well."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from finscale.core.budgets import format_n
from finscale.reporting.chart import blank
from finscale.reporting.dimensions import Varied, finite_trials, varied, within_reach
from finscale.reporting.template import FAINT, MUTED, PALETTE
from finscale.search.verbosity import quiet_optuna

__all__ = ["MIN_TRIALS", "importances", "parallel_coordinates", "parameter_importance"]

MIN_TRIALS = 30
"""Complete trials below which a forest learns mostly chance."""

_MAX_WORD = 9


def importances(trials: pd.DataFrame) -> dict[str, float]:
    """Return the share of the loss's variance that each dimension alone explains, highest first.

    The functional ANOVA of a random forest (Hutter, Hoos and Leyton-Brown 2014), scaled to a sum of 1. Losses
    beyond reach count as the reach.

    Parameters
    ----------
    trials : DataFrame
        Of one cell.

    Returns
    -------
    dict
        Empty where fewer than `MIN_TRIALS` trials are complete, or where nothing varies.
    """
    finite = finite_trials(trials)
    dimensions = varied(finite) if len(finite) >= MIN_TRIALS else ()
    values = finite["value"].to_numpy(dtype=np.float64)
    if not dimensions or np.ptp(values) == 0:
        return {}
    study = _study(dimensions, np.minimum(values, within_reach(values)))
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: float(share) for name, share in found.items()}


def parameter_importance(trials: pd.DataFrame, *, title: str) -> go.Figure:
    """Draw the importances of one cell's dimensions as bars."""
    found, n_complete = importances(trials), len(finite_trials(trials))
    few = f"Too few: {n_complete} complete trials; an importance needs {MIN_TRIALS}."
    figure = blank(
        title,
        x="share of the variance explained",
        y="",
        caption="How much of the loss's variance each dimension explains alone (functional ANOVA of a random "
        "forest). The search looked more where losses were low, so elsewhere it is an extrapolation.",
        note=f"From {n_complete} complete trials." if found else few,
        height=320,
    )
    names = list(found)[::-1]
    figure.add_bar(
        x=[found[name] for name in names],
        y=names,
        orientation="h",
        marker={"color": PALETTE[0]},
        hovertemplate="%{y}: %{x:.0%}<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    return figure


def parallel_coordinates(trials: pd.DataFrame, *, title: str, axis: str) -> go.Figure:
    """Draw every complete trial of a cell as a line over what varied, up to its loss.

    Parameters
    ----------
    axis : str
        Title of the last axis: the loss and its unit.
    """
    finite = finite_trials(trials).sort_values(["value", "number"])
    figure = blank(
        title,
        x="",
        y="",
        caption="Every complete trial is a line from one dimension to the next and, last, to its loss. Each "
        "axis runs from the least to the greatest value tried, on a log scale where that is more than a "
        "factor of five. Losses beyond reach are drawn at the end of their axis.",
        height=380,
    )
    if finite.empty:
        return figure
    dimensions = (*varied(finite), _loss(finite, axis))
    places = np.column_stack([_unit(dimension.values) for dimension in dimensions])
    numbers, losses = finite["number"].to_numpy(), finite["value"].to_numpy(dtype=np.float64)
    for band in reversed(_bands(len(finite))):
        _add_lines(figure, band, places[band.rows], numbers[band.rows], losses[band.rows])
    _add_axes(figure, dimensions)
    return figure


class _Band(NamedTuple):
    """Trials that are drawn alike: rows of the table ordered by loss."""

    name: str
    rows: slice
    colour: str
    width: float


def _bands(n_trials: int) -> list[_Band]:
    tenth, half = math.ceil(0.1 * n_trials), math.ceil(0.5 * n_trials)
    found = [
        _Band("best tenth", slice(0, tenth), PALETTE[0], 2.0),
        _Band("better half", slice(tenth, half), PALETTE[4], 1.0),
        _Band("worse half", slice(half, n_trials), FAINT, 0.7),
    ]
    return [band for band in found if band.rows.start < band.rows.stop]


def _loss(finite: pd.DataFrame, axis: str) -> Varied:
    values = finite["value"].to_numpy(dtype=np.float64)
    return Varied(axis, np.minimum(values, within_reach(values)))


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    width = np.ptp(values)
    return np.full(len(values), 0.5) if width == 0 else (values - values.min()) / width


def _add_lines(
    figure: go.Figure,
    band: _Band,
    places: NDArray[np.float64],
    numbers: NDArray[np.int64],
    losses: NDArray[np.float64],
) -> None:
    """Add the lines of one band as one trace: a gap ends each."""
    n_trials, n_axes = places.shape
    gap = np.full((n_trials, 1), np.nan)
    said = np.column_stack([numbers, losses.round(5)]).repeat(n_axes + 1, axis=0)
    figure.add_scatter(
        x=np.tile([*range(n_axes), n_axes - 1], n_trials),
        y=np.concatenate([places, gap], axis=1).round(4).ravel(),
        mode="lines",
        name=band.name,
        line={"color": band.colour, "width": band.width},
        opacity=0.85,
        customdata=said,
        hovertemplate="trial %{customdata[0]}: %{customdata[1]:.4f}<extra></extra>",
        legendrank=1000 + band.rows.start,
    )


def _add_axes(figure: go.Figure, dimensions: Sequence[Varied]) -> None:
    """Name every axis below, and write its values beside it."""
    names = [dimension.name for dimension in dimensions]
    figure.update_xaxes(
        tickvals=list(range(len(names))),
        ticktext=names,
        tickangle=-35,
        showline=False,
        ticks="",
        gridcolor=FAINT,
        range=[-0.4, len(names) - 0.2],
    )
    figure.update_yaxes(visible=False, range=[-0.1, 1.1])
    figure.update_layout(legend={"y": 1.02, "yanchor": "bottom"})
    for position, dimension in enumerate(dimensions):
        for place, text in _written_ends(dimension):
            figure.add_annotation(
                x=position,
                y=place,
                text=text,
                showarrow=False,
                yshift=9 if place > 0 else -9,
                font={"size": 9, "color": MUTED},
            )


def _written_ends(dimension: Varied) -> list[tuple[float, str]]:
    """Return the least and the greatest value of an axis and their places."""
    low, high = float(dimension.values.min()), float(dimension.values.max())
    ends = [low] if low == high else [low, high]
    return [(place, _text(dimension, end)) for place, end in zip((0.0, 1.0), ends, strict=False)]


def _text(dimension: Varied, value: float) -> str:
    if dimension.words:
        return _shortened(dimension.words[int(value)])
    return _written(10**value if dimension.is_log else value)


def _study(dimensions: tuple[Varied, ...], values: NDArray[np.float64]) -> optuna.Study:
    distributions = {dimension.name: _distribution(dimension) for dimension in dimensions}
    with quiet_optuna():
        study = optuna.create_study()
    for number, value in enumerate(values):
        params = {dimension.name: _param(dimension, number) for dimension in dimensions}
        trial = optuna.trial.create_trial(value=float(value), params=params, distributions=distributions)
        study.add_trial(trial)
    return study


def _distribution(dimension: Varied) -> BaseDistribution:
    if dimension.words:
        return CategoricalDistribution(dimension.words)
    return FloatDistribution(float(dimension.values.min()), float(dimension.values.max()))


def _param(dimension: Varied, number: int) -> str | float:
    value = float(dimension.values[number])
    return dimension.words[int(value)] if dimension.words else value


def _shortened(word: str) -> str:
    return word if len(word) <= _MAX_WORD else f"{word[: _MAX_WORD - 1]}\N{HORIZONTAL ELLIPSIS}"


def _written(value: float) -> str:
    """Write a value with two or three digits.

    Examples
    --------
    >>> [_written(value) for value in (0.000312, 0.6431, 75.0, 19_912_345.0)]
    ['0.00031', '0.643', '75', '19.9M']
    """
    if value >= 1e4:
        return format_n(value)
    return f"{value:.2g}" if abs(value) < 0.01 else f"{value:.3g}"
