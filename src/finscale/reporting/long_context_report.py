"""The page of a long-context evaluation: what the gates allow to be said, then figures and tables."""

import html
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.learned import chances_of
from finscale.reporting.long_context import accuracy_against_length, accuracy_by_depth, accuracy_by_task
from finscale.reporting.long_context_costs import ablation_grid, cost_against_length, streaming_against_length
from finscale.reporting.long_context_positions import discrepancy_table, position_figures
from finscale.reporting.long_context_probes import (
    attention_along_the_haystack,
    attention_at_the_needle,
    loss_against_distance,
)
from finscale.reporting.long_context_results import LongContextResults
from finscale.reporting.long_context_tables import accuracy_table, gates_table
from finscale.reporting.page import page, plot_script
from finscale.reporting.template import PALETTE

__all__ = ["long_context_figures", "render_long_context"]


def long_context_figures(
    results: LongContextResults, config: LongContextConfig, *, provenance: str
) -> dict[str, go.Figure]:
    """Return every figure of a block by name, in reading order."""
    labels: dict[str, Any] = {"title": config.experiment_name, "provenance": provenance}
    rows, longest = results.rows, max(config.training.lengths) if config.training else None
    figures = {
        "retrieval": accuracy_against_length(
            rows, chances=chances_of(config), longest_trained=longest, **labels
        ),
        "retrieval_by_depth": accuracy_by_depth(rows, **labels),
        "retrieval_by_task": accuracy_by_task(rows, **labels),
    }
    if config.ablation:
        names = dict(zip(config.modes, dict.fromkeys(rows["mode"]), strict=True))
        modes, setting = [names[value] for value in config.ablation.values], config.ablation.setting
        figures["ablation"] = ablation_grid(rows, modes=modes, setting=setting, **labels)
    figures |= _probed(results, config, labels)
    figures["retrieval_cost"] = cost_against_length(rows, **labels)
    if not results.system.empty:
        figures["streaming"] = streaming_against_length(results.system, **labels)
    return figures


def render_long_context(
    results: LongContextResults, figures: Mapping[str, go.Figure], *, provenance: str
) -> str:
    """Return one evaluation as an HTML document that needs no network."""
    name, names = results.verdict.experiment_name, ("accuracy", "figures", "gates")
    links = "".join(f'<a href="#{place}">{place.capitalize()}</a>' for place in names)
    head = f"<header><h1>{html.escape(f'Long context: {name}')}</h1></header><nav>{links}</nav>"
    foot = f"<footer>finscale · {html.escape(provenance)}</footer>"
    return page(f"{name} - long context", head + _body(results, figures, provenance) + foot)


def _body(results: LongContextResults, figures: Mapping[str, go.Figure], provenance: str) -> str:
    verdict, codes = results.verdict, discrepancy_table(results.positions)
    said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in verdict.sentences)
    note = f'<p class="note">{html.escape(results.note)}</p>' if results.note else ""
    tables = "".join(
        accuracy_table(results.rows, task).to_html() for task in dict.fromkeys(results.rows["task"])
    )
    plots = "".join(_figure(name, figure, provenance) for name, figure in figures.items())
    untitled = {
        name: go.Figure(figure).update_layout(title_text=None, margin_t=40, height=None)
        for name, figure in figures.items()
    }
    return (
        f'<section class="verdict" id="long-context" style="--verdict: {PALETTE[0]}">'
        f'<p class="label">long context</p>'
        f'<p class="headline">{html.escape(verdict.experiment_name)}</p>{said}</section>'
        f'<h2 id="accuracy">Accuracy</h2>{note}{tables}<h2 id="figures">Figures</h2>{plots}'
        f"{codes.to_html() if codes else ''}"
        f'<h2 id="gates">Gates</h2>{gates_table(verdict).to_html()}{plot_script(untitled)}'
    )


def _probed(
    results: LongContextResults, config: LongContextConfig, labels: dict[str, Any]
) -> dict[str, go.Figure]:
    """Return what was seen inside decoders trained here."""
    figures = {}
    if not results.attention.empty:
        figures["attention_at_the_needle"] = attention_at_the_needle(results.attention, **labels)
        figures["attention_along_the_haystack"] = attention_along_the_haystack(results.attention, **labels)
    if not results.losses.empty:
        n_active = config.decoder_symbols.n_active
        figures["loss_against_distance"] = loss_against_distance(results.losses, n_active=n_active, **labels)
    return figures | position_figures(results.positions, modes=config.modes, **labels)


def _figure(name: str, figure: go.Figure, provenance: str) -> str:
    title, caption = html.escape(figure.layout.title.text), html.escape(figure.layout.meta["caption"])
    height = f"height: {figure.layout.height}px"
    return (
        f'<figure><h3>{title}</h3><div class="plot" id="{name}" role="img" aria-label="{title}" '
        f'style="{height}"></div><figcaption>{caption}'
        f'<span class="source">{html.escape(provenance)}</span></figcaption></figure>'
    )
