"""The report: verdict first, then figures, tables and the checklist, in one self-contained HTML file."""

import html
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from finscale.reporting.cautions import cautions
from finscale.reporting.figures import history_figures, main_figures
from finscale.reporting.intervals import against_baselines
from finscale.reporting.page import page, plot_script
from finscale.reporting.study import ReportInput
from finscale.reporting.study_tables import checklist_table, study_tables
from finscale.reporting.template import VERDICT_COLOURS
from finscale.scalinglaws.sentences import format_n, headline, sentences

__all__ = ["render_report", "scaling_summary", "summary_markdown"]


def render_report(study: ReportInput) -> str:
    """Return the whole report as one HTML document that needs no network.

    Equal input gives equal text.
    """
    tables = study_tables(study)
    parts = [
        _header(study),
        _verdict(study),
        _facts(study),
        _cautions(study),
        _figures(study),
        f'<h2 id="tables">Tables</h2>{"".join(table.to_html() for table in tables[:-1])}',
        f'<div class="checklist" id="checklist">{tables[-1].to_html()}</div>',
        f"<footer>finscale · {html.escape(study.provenance.line())}</footer>",
    ]
    return page(f"{study.title} - scaling report", "\n".join(parts))


def _header(study: ReportInput) -> str:
    names = ("verdict", "figures", "tables", "checklist")
    links = "".join(f'<a href="#{name}">{name.capitalize()}</a>' for name in names)
    return (
        f"<header><h1>{html.escape(study.title)}</h1>"
        f'<p class="small">{html.escape(study.data_card)}</p></header><nav>{links}</nav>'
    )


def _verdict(study: ReportInput) -> str:
    verdict = study.verdict
    name = verdict.overall.verdict.value
    first, *rest = (_prose(sentence) for sentence in sentences(verdict))
    paragraphs = "".join(f"<p>{sentence}</p>" for sentence in [*rest, *map(_prose, _second_looks(study))])
    return (
        f'<section class="verdict" id="verdict" style="--mark: {VERDICT_COLOURS[name]}">'
        f'<p class="label">{name.replace("_", " ")}</p>'
        f'<p class="headline">{html.escape(headline(verdict))}</p>'
        f'<p class="lead">{first}</p>{paragraphs}</section>'
    )


def _prose(sentence: str) -> str:
    """Escape a sentence and keep its numbers with their signs and units."""
    text = html.escape(sentence)
    for loose in (" %", " nats", "p = ", "= ", "p &lt; ", "&lt; "):
        text = text.replace(loose, loose.replace(" ", "&nbsp;"))
    return text


def _second_looks(study: ReportInput) -> list[str]:
    """Say what the test period and the baselines add; neither changes the verdict."""
    beside = against_baselines(study)
    looks = [beside] if beside else []
    if study.test_verdict is not None and study.test_verdict.overall.horizons:
        name = study.test_verdict.overall.verdict.value.replace("_", " ")
        looks.append(f"The test period, as a second look: {name}. {sentences(study.test_verdict)[0]}")
    return looks


def _facts(study: ReportInput) -> str:
    trend, verdict = study.verdict.overall, study.verdict
    low, high = verdict.n_seeds
    ends = (
        dict.fromkeys(format_n(n) for n in (trend.n_params[0], trend.n_params[-1]))
        if trend.n_params
        else {"-"}
    )
    facts = {
        "parameters": "\N{EN DASH}".join(ends),
        "budgets": str(len(study.budgets)),
        "horizons (bars)": ", ".join(str(horizon) for horizon in study.horizons) or "-",
        "seeds per cell": str(low) if low == high else f"{low} to {high}",
        "trials": str(len(study.trials)),
    }
    items = "".join(
        f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>" for name, value in facts.items()
    )
    return f'<dl class="facts">{items}</dl>'


def _cautions(study: ReportInput) -> str:
    found = cautions(study)
    if not found:
        return '<p class="clean">No warnings: every planned cell is here and no run was flagged.</p>'
    items = "".join(f"<li>{html.escape(caution)}</li>" for caution in found)
    return f'<section class="cautions"><h3>Before you rely on this</h3><ul>{items}</ul></section>'


def _figures(study: ReportInput) -> str:
    figures, histories = main_figures(study), history_figures(study)
    names = ("excess_against_n", "loss_against_n_", "tuning_curves_", "arch_grid")
    untitled = {key: _untitled(figure) for key, figure in (figures | histories).items()}
    groups = [[key for key in figures if key.startswith(name)] for name in names]
    shown = "".join(_group({key: figures[key] for key in group}) for group in groups)
    return f'<h2 id="figures">Figures</h2>{shown}{_histories(histories)}{plot_script(untitled)}'


def _untitled(figure: go.Figure) -> go.Figure:
    """Take the title out of a figure; on a page it is a heading that can wrap."""
    return go.Figure(figure).update_layout(title_text=None, margin_t=12, height=None)


def _histories(figures: Mapping[str, go.Figure]) -> str:
    if not figures:
        return ""
    summary = f"Optimisation history of every cell ({len(figures)})"
    return f"<details><summary>{summary}</summary>{_group(figures)}</details>"


def _group(figures: Mapping[str, go.Figure]) -> str:
    """Return figures that are read alike, side by side where there is room, over one caption."""
    if not figures:
        return ""
    plots = "".join(_plot(name, figure) for name, figure in figures.items())
    shown = f'<div class="multiples">{plots}</div>' if len(figures) > 1 else plots
    meta = next(iter(figures.values())).layout.meta
    return (
        f"<figure>{shown}<figcaption>{html.escape(meta['caption'])}"
        f'<span class="source">{html.escape(meta["provenance"])}</span></figcaption></figure>'
    )


def _plot(name: str, figure: go.Figure) -> str:
    note = figure.layout.meta["note"]
    shown = f'<p class="note">{html.escape(note)}</p>' if note else ""
    title = html.escape(figure.layout.title.text, quote=True)
    size = f"height: {figure.layout.height}px"
    plot = f'<div class="plot" id="{name}" role="img" aria-label="{title}" style="{size}"></div>'
    return f"<div><h3>{title}</h3>{plot}{shown}</div>"


def summary_markdown(study: ReportInput) -> str:
    """Return the verdict, the warnings and the tables as Markdown."""
    found = cautions(study)
    warnings = ["## Before you rely on this", "", *(f"- {caution}" for caution in found), ""] if found else []
    lines = [
        f"# {study.title}",
        "",
        f"**{headline(study.verdict)}**",
        "",
        *_paragraphs((*sentences(study.verdict), *_second_looks(study))),
    ]
    lines += [*warnings, "## Tables", "", *(table.to_markdown() for table in study_tables(study))]
    return "\n".join([*lines, f"{study.data_card}", "", f"{study.provenance.line()}", ""])


def _paragraphs(spoken: tuple[str, ...]) -> list[str]:
    return [line for sentence in spoken for line in (sentence, "")]


def scaling_summary(study: ReportInput) -> dict[str, Any]:
    """Return the content of ``scaling_summary.json``: plain JSON values, None where nothing is known."""
    test = study.test_verdict
    return {
        "title": study.title,
        "verdict": study.verdict.overall.verdict.value,
        "headline": headline(study.verdict),
        "sentences": [*sentences(study.verdict), *_second_looks(study)],
        "val_score": study.verdict.model_dump(mode="json"),
        "test": None if test is None else test.model_dump(mode="json"),
        "missing_cells": list(study.missing),
        "warnings": list(cautions(study)),
        "checklist": {row[0]: row[1] for row in checklist_table(study).rows},
        "data_card": study.data_card,
        "provenance": study.provenance.model_dump(mode="json"),
    }
