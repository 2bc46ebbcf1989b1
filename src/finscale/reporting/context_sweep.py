"""The page of a context sweep: loss against the context kept, and what may be said of it."""

import html
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from finscale.longcontext.context_differences import Difference
from finscale.longcontext.context_sentences import answer_words, context_sentences
from finscale.longcontext.context_sweep import Kind
from finscale.longcontext.context_verdict import ContextRow, ContextVerdict, SplitVerdict
from finscale.reporting.long_context_section import LongContextSection
from finscale.reporting.page import page, plot_script
from finscale.reporting.tables import Cell, Column, Table, count, interval, number, signed
from finscale.reporting.template import FAINT, INK, MUTED, PALETTE, TEMPLATE

__all__ = ["context_section", "context_table", "loss_against_context", "render_context_sweep"]

_STYLES: Mapping[Kind, dict[str, Any]] = {
    "trained": {"color": PALETTE[0], "dash": "solid", "symbol": "circle", "shift": 1.0},
    "hidden": {"color": PALETTE[1], "dash": "dash", "symbol": "diamond", "shift": 1.03},
}
_NAMES: Mapping[Kind, str] = {
    "trained": "trained with k bars",
    "hidden": "trained with all, older ones hidden",
}
_SPLITS = {"val_score": "scoring half of validation", "test": "test period"}


def loss_against_context(
    verdict: ContextVerdict, rows: pd.DataFrame, *, loss: str, title: str, provenance: str
) -> go.Figure:
    """Draw the loss of every context kept, one panel per split.

    Parameters
    ----------
    rows : DataFrame
        Of `finscale.longcontext.context_sweep.score_table`; seeds are its faint points.
    loss : str
        Its column of losses.
    title : str
        Of the experiment.
    provenance : str
        Written under the figure.
    """
    splits = verdict.splits
    titles = [_SPLITS.get(split.split, split.split) for split in splits]
    figure = make_subplots(1, max(1, len(splits)), subplot_titles=titles, horizontal_spacing=0.11)
    for column, split in enumerate(splits, start=1):
        _draw_split(figure, split, verdict, rows[rows["split"] == split.split], loss, column)
    ticks = sorted({row.context_length for split in splits for row in split.rows})
    labels = [str(n_bars) for n_bars in ticks]
    figure.update_xaxes(
        type="log", tickvals=ticks, ticktext=labels, minor_ticks="", title="bars kept k (log scale)"
    )
    figure.update_yaxes(title=f"{verdict.words} ({verdict.unit})", col=1)
    caption = (
        "Lower is better. Points: means over dates and seeds; faint points: single seeds. Bars: intervals "
        "of the difference from the whole context (blocks of dates; of the trained ones also seeds), 95 % "
        "for all contexts of a colour together; where a bar crosses the dotted level of the whole context, "
        "the two are not told apart. Lines: the "
        f"{verdict.reference.replace('_', ' ')} and the best baseline on the same rows."
    )
    figure.update_layout(template=TEMPLATE, title=title, height=430, margin={"t": 84, "b": 60})
    return figure.update_layout(meta={"caption": caption, "provenance": provenance, "note": ""})


def _draw_split(
    figure: go.Figure,
    split: SplitVerdict,
    verdict: ContextVerdict,
    rows: pd.DataFrame,
    loss: str,
    column: int,
) -> None:
    whole = [row for row in split.of("trained") if row.context_length == verdict.context_length]
    for kind in dict.fromkeys(row.kind for row in split.rows):
        shown = split.of(kind) if kind == "trained" else (*split.of(kind), *whole)
        for trace in _traces(kind, shown, rows[rows["kind"] == kind], loss, legend=column == 1):
            figure.add_trace(trace, row=1, col=column)
    for row in whole:
        figure.add_hline(row.loss, line={"dash": "dot", "color": FAINT, "width": 1}, row=1, col=column)
    best = next(iter(split.baselines), verdict.reference)
    for name in dict.fromkeys((verdict.reference, best)):
        line = {"color": INK if name == verdict.reference else MUTED, "width": 1}
        label = {"annotation_text": name.replace("_", " "), "annotation_font": {"size": 11, "color": MUTED}}
        place = {"annotation_position": "top right", "row": 1, "col": column}
        figure.add_hline(split.baselines[name], line=line, **label, **place)


def _traces(
    kind: Kind, shown: tuple[ContextRow, ...], rows: pd.DataFrame, loss: str, *, legend: bool
) -> list[go.Scatter]:
    style, shared = _STYLES[kind], {"name": _NAMES[kind], "legendgroup": kind}
    reaches = [_reach(row.gap) for row in shown]
    bars = {"array": [up for up, _ in reaches], "arrayminus": [down for _, down in reaches]}
    line = go.Scatter(
        x=[row.context_length * style["shift"] for row in shown],
        y=[row.loss for row in shown],
        error_y={"type": "data", "thickness": 1.4, "width": 4, **bars},
        mode="lines+markers",
        line={"color": style["color"], "dash": style["dash"]},
        marker={"size": 8, "symbol": style["symbol"]},
        customdata=[row.context_length for row in shown],
        hovertemplate="k = %{customdata}: %{y:.4f}<extra></extra>",
        showlegend=legend,
        **shared,
    )
    if rows["seed"].nunique() < 2:
        return [line]
    points = go.Scatter(
        x=rows["context_length"] * style["shift"],
        y=rows[loss],
        mode="markers",
        marker={"color": style["color"], "opacity": 0.35, "size": 4},
        text=[f"seed {seed}" for seed in rows["seed"]],
        showlegend=False,
        **shared,
    )
    return [points, line]


def _reach(gap: Difference | None) -> tuple[float | None, float | None]:
    """Return how far an interval reaches above and below its mean."""
    if gap is None or gap.mean is None or gap.low is None or gap.high is None:
        return None, None
    return gap.high - gap.mean, gap.mean - gap.low


def context_table(verdict: ContextVerdict, rows: pd.DataFrame, split: SplitVerdict) -> Table:
    """Return what every context kept gives on one split."""
    names = ("bars kept", "how", "N", "seeds", verdict.words, "less the whole", "95 %", "p, Holm")
    heads = (*names, f"lead over {verdict.reference.replace('_', ' ')}, 95 %")
    columns = tuple(Column(name=name, align="left" if name == "how" else "right") for name in heads)
    n_params = rows.groupby(["kind", "context_length"])["n_params"].first()
    note = (
        f"In {verdict.unit}. Differences are paired by date: a positive one is worse, a positive lead "
        "better. Intervals hold together for all contexts of a kind; those of trained contexts include the "
        "scatter between seeds. N differs where positions are learned. "
    )
    hidden = f"No bars were hidden: {verdict.hidden}." if verdict.hidden else ""
    return Table(
        title=f"Loss by context kept, {_SPLITS.get(split.split, split.split)}",
        columns=columns,
        rows=tuple(_cells(row, int(n_params[row.kind, row.context_length])) for row in split.rows),
        note=(note + hidden).strip(),
    )


def _cells(row: ContextRow, n_params: int) -> tuple[Cell, ...]:
    gap, lead = row.gap, row.lead
    return (
        count(row.context_length),
        Cell(value=row.kind),
        count(n_params),
        count(row.n_seeds),
        number(row.loss),
        signed(gap.mean if gap else None),
        interval(gap.low, gap.high) if gap else Cell(),
        Cell(value=gap.adjusted if gap else None, form="p value"),
        interval(lead.low, lead.high) if lead else Cell(),
    )


def context_section(
    verdict: ContextVerdict, rows: pd.DataFrame, figure: go.Figure, *, provenance: str
) -> LongContextSection:
    """Return what the main report shows of a sweep."""
    return LongContextSection(
        experiment_name=f"How far back the models of {verdict.cell} look",
        sentences=context_sentences(verdict),
        note=f"No bars were hidden: {verdict.hidden}." if verdict.hidden else "",
        tables=tuple(context_table(verdict, rows, split) for split in verdict.splits[:1]),
        figures={"loss_against_context": json.loads(figure.to_json())},
        provenance=provenance,
    )


def _body(verdict: ContextVerdict, rows: pd.DataFrame, figure: go.Figure, *, provenance: str) -> str:
    said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in context_sentences(verdict))
    headline = answer_words(verdict.splits[0]) if verdict.splits else "Not measurable"
    tables = "".join(context_table(verdict, rows, split).to_html() for split in verdict.splits)
    name = f"context_{verdict.cell}"
    untitled = go.Figure(figure).update_layout(title_text=None, height=None, margin_t=36)
    title, caption = html.escape(figure.layout.title.text), html.escape(figure.layout.meta["caption"])
    return (
        f'<section class="verdict" id="context" style="--verdict: {PALETTE[0]}">'
        f'<p class="label">context kept, {html.escape(verdict.cell)}</p>'
        f'<p class="headline">{html.escape(headline)}</p>{said}</section>'
        f'<figure id="figure"><h3>{title}</h3><div class="plot" id="{name}" role="img" aria-label="{title}" '
        f'style="height: {figure.layout.height}px"></div><figcaption>{caption}'
        f'<span class="source">{html.escape(provenance)}</span></figcaption></figure>'
        f'<div id="tables">{tables}</div>{plot_script({name: untitled})}'
    )


def render_context_sweep(
    verdict: ContextVerdict,
    rows: pd.DataFrame,
    figure: go.Figure,
    *,
    title: str,
    data_card: str,
    provenance: str,
) -> str:
    """Return one sweep as an HTML document that needs no network.

    Parameters
    ----------
    title, data_card : str
        Of the experiment, and one line on its data.
    """
    card = f'<p class="small">{html.escape(data_card)}</p>'
    links = '<a href="#context">Answer</a><a href="#figure">Figure</a><a href="#tables">Tables</a>'
    head = f"<header><h1>{html.escape(title)}: how far back?</h1>{card}</header><nav>{links}</nav>"
    body = _body(verdict, rows, figure, provenance=provenance)
    foot = f"<footer>finscale · {html.escape(provenance)}</footer>"
    return page(f"{title} - context sweep", head + body + foot)
