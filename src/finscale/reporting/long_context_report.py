"""The page of a long-context evaluation: what the gates allow to be said, then figures and tables."""

import html
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.rows import pool
from finscale.longcontext.verdict import Verdict
from finscale.reporting.long_context import accuracy_against_length, accuracy_by_depth, accuracy_by_task
from finscale.reporting.long_context_costs import ablation_grid, cost_against_length, streaming_against_length
from finscale.reporting.page import page, plot_script
from finscale.reporting.tables import Column, Table, count, number
from finscale.reporting.template import PALETTE

__all__ = [
    "accuracy_table",
    "gates_table",
    "long_context_figures",
    "long_context_section",
    "render_long_context",
]


def long_context_figures(
    rows: pd.DataFrame, system: pd.DataFrame, config: LongContextConfig, *, provenance: str
) -> dict[str, go.Figure]:
    """Return every figure of a block by name."""
    labels: dict[str, Any] = {"title": config.experiment_name, "provenance": provenance}
    longest = max(config.training.lengths) if config.training else None
    figures = {
        "retrieval": accuracy_against_length(
            rows, chances=_chances(config), longest_trained=longest, **labels
        ),
        "retrieval_by_depth": accuracy_by_depth(rows, **labels),
        "retrieval_by_task": accuracy_by_task(rows, **labels),
        "retrieval_cost": cost_against_length(rows, **labels),
    }
    if config.ablation:
        modes, setting = tuple(config.ablation.values), config.ablation.setting
        figures["ablation"] = ablation_grid(rows, modes=modes, setting=setting, **labels)
    if not system.empty:
        figures["streaming"] = streaming_against_length(system, **labels)
    return figures


def accuracy_table(rows: pd.DataFrame, task: str) -> Table:
    """Return the accuracy of one task: modes by length, each with its interval."""
    pooled = pool(rows[rows["task"] == task], ["mode", "length"])
    lengths = sorted(pooled["length"].unique())
    by_place = {(row.mode, row.length): row for row in pooled.itertuples()}
    modes = dict.fromkeys(rows["mode"])
    shown = tuple((mode, *(_share(by_place.get((mode, length))) for length in lengths)) for mode in modes)
    columns = (Column(name="mode", align="left"), *(Column(name=str(length)) for length in lengths))
    note = "Accuracy over depths and seeds with its 95 % Wilson interval."
    return Table(title=f"Accuracy: {task}", columns=columns, rows=shown, note=note)


def gates_table(verdict: Verdict) -> Table:
    """Return every gate with its numbers."""
    names = ("gate", "mode", "outcome", "estimate", "low", "high", "threshold", "n", "why")
    left = {"gate", "mode", "outcome", "why"}
    columns = tuple(Column(name=name, align="left" if name in left else "right") for name in names)
    rows = tuple(
        (
            gate.name.replace("_", " "),
            gate.mode,
            gate.outcome.replace("_", " "),
            *(number(value, 3) for value in (gate.estimate, gate.low, gate.high, gate.threshold)),
            count(gate.n),
            gate.reason,
        )
        for gate in verdict.gates
    )
    note = "A gate passes or fails where its whole 95 % interval lies on one side of its threshold."
    return Table(title="Gates", columns=columns, rows=rows, note=note)


def long_context_section(
    verdict: Verdict, rows: pd.DataFrame, figures: Mapping[str, go.Figure], *, provenance: str
) -> str:
    """Return the HTML of one evaluation, for a page that has the style of `finscale.reporting.page`."""
    said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in verdict.sentences)
    tables = "".join(accuracy_table(rows, task).to_html() for task in dict.fromkeys(rows["task"]))
    plots = "".join(_figure(name, figure, provenance) for name, figure in figures.items())
    untitled = {
        name: go.Figure(figure).update_layout(title_text=None, height=None)
        for name, figure in figures.items()
    }
    return (
        f'<section class="verdict" id="long-context" style="--verdict: {PALETTE[0]}">'
        f'<p class="label">long context</p>'
        f'<p class="headline">{html.escape(verdict.experiment_name)}</p>{said}</section>'
        f'<h2 id="accuracy">Accuracy</h2>{tables}<h2 id="figures">Figures</h2>{plots}'
        f'<h2 id="gates">Gates</h2>{gates_table(verdict).to_html()}{plot_script(untitled)}'
    )


def render_long_context(
    verdict: Verdict, rows: pd.DataFrame, figures: Mapping[str, go.Figure], *, provenance: str
) -> str:
    """Return one evaluation as an HTML document that needs no network."""
    names = ("accuracy", "figures", "gates")
    links = "".join(f'<a href="#{name}">{name.capitalize()}</a>' for name in names)
    title = html.escape(f"Long context: {verdict.experiment_name}")
    head = f"<header><h1>{title}</h1></header><nav>{links}</nav>"
    section = long_context_section(verdict, rows, figures, provenance=provenance)
    foot = f"<footer>finscale · {html.escape(provenance)}</footer>"
    return page(f"{verdict.experiment_name} - long context", head + section + foot)


def _figure(name: str, figure: go.Figure, provenance: str) -> str:
    title, caption = html.escape(figure.layout.title.text), html.escape(figure.layout.meta["caption"])
    height = f"height: {figure.layout.height}px"
    return (
        f'<figure><h3>{title}</h3><div class="plot" id="{name}" role="img" aria-label="{title}" '
        f'style="{height}"></div><figcaption>{caption}'
        f'<span class="source">{html.escape(provenance)}</span></figcaption></figure>'
    )


def _share(row: Any) -> str:
    return "" if row is None else f"{row.acc:.2f} [{row.low:.2f}, {row.high:.2f}]"


def _chances(config: LongContextConfig) -> dict[str, float]:
    """Return what guessing scores: any value of the sequence, or of the queried key."""
    if config.symbols is None:
        return {}
    any_value, any_own = 1 / config.symbols.n_active, 1 / config.symbols.n_overwrites
    n_written = sum(config.symbols.overwrite_counts)
    return {"needle": any_value, "latest": any_own, "far": any_value, "dense": any_value} | {
        "overwrite": 1 / n_written
    }
