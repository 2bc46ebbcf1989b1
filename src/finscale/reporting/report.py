"""The report: verdict first, then figures, tables and the checklist, in one self-contained HTML file.

Every number in its text and tables names, in ``data-record``, the place in ``scaling_summary.json`` it was
read from, and in ``data-form`` how it is written (`finscale.core.citation`).
"""

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from finscale.core.citation import show
from finscale.reporting.page import page, plot_script
from finscale.reporting.searches import CellSearch
from finscale.reporting.study import ReportInput
from finscale.reporting.summary import Report, facts, power_sentences, spoken
from finscale.reporting.tables import SUMMARY, marked_up, tagged
from finscale.reporting.template import VERDICT_COLOURS
from finscale.scalinglaws.sentences import headline

__all__ = ["render_report"]

_GROUPS = (
    *("excess_against_n", "horizon_excess_", "loss_against_n_", "residuals", "alpha_profile", "held_out"),
    *("excess_against_flops", "tuning_curves_", "best_architectures_", "arch_grid"),
)


def render_report(report: Report) -> str:
    """Return the whole report as one HTML document that needs no network."""
    study = report.study
    parts = [
        _header(study),
        _verdict(report),
        _facts(study),
        _cautions(report),
        _figures(report),
        _power(report),
        f'<h2 id="tables">Tables</h2>{"".join(table.to_html() for table in report.tables[:-1])}',
        f'<div class="checklist" id="checklist">{report.tables[-1].to_html()}</div>',
        f"<footer>finscale · {_provenance(study)}</footer>",
    ]
    return page(f"{study.title} - scaling report", "\n".join(parts))


def _header(study: ReportInput) -> str:
    names = ("verdict", "figures", "power", "tables", "checklist")
    links = "".join(f'<a href="#{name}">{name.capitalize()}</a>' for name in names)
    title = tagged("h1", study.title, f"{SUMMARY}/title")
    card = tagged("p", study.data_card, f"{SUMMARY}/data_card", **{"class": "small"})
    return f"<header>{title}{card}</header><nav>{links}</nav>"


def _verdict(report: Report) -> str:
    verdict = report.study.verdict
    name = verdict.overall.verdict.value
    unit = report.study.measure.unit
    paragraphs = "".join(
        _paragraph(sentence, f"sentences/{i}", unit) for i, sentence in enumerate(spoken(report))
    )
    return (
        f'<section class="verdict" id="verdict" style="--verdict: {VERDICT_COLOURS[name]}">'
        f'<p class="label">{name.replace("_", " ")}</p>'
        f'<p class="headline">{html.escape(headline(verdict))}</p>'
        f"{paragraphs}</section>"
    )


def _paragraph(sentence: str, record: str, unit: str) -> str:
    """Return a sentence that keeps its numbers with their units."""
    text = tagged("p", sentence, f"{SUMMARY}/{record}")
    for loose in (" %", f" {html.escape(unit)}", "p <span"):
        text = text.replace(loose, loose.replace(" ", "&nbsp;"))
    return text


def _facts(study: ReportInput) -> str:
    items = "".join(
        f"<div><dt>{name}</dt>{tagged('dd', show(value, form) or '-', f'{SUMMARY}/facts/{name}', form)}</div>"
        for name, (value, form) in facts(study).items()
    )
    return f'<dl class="facts">{items}</dl>'


def _cautions(report: Report) -> str:
    if not report.warnings:
        return '<p class="clean">No warnings: every planned cell is here and no run was flagged.</p>'
    items = "".join(
        tagged("li", caution, f"{SUMMARY}/warnings/{i}") for i, caution in enumerate(report.warnings)
    )
    return f'<section class="cautions"><h3>Before you rely on this</h3><ul>{items}</ul></section>'


def _power(report: Report) -> str:
    unit = report.study.measure.unit
    said = "".join(
        _paragraph(sentence, f"power_sentences/{i}", unit)
        for i, sentence in enumerate(power_sentences(report))
    )
    table = report.power_table.to_html() if report.power_table else ""
    return f'<h2 id="power">Power</h2>{said}{table}'


def _figures(report: Report) -> str:
    figures, searches = report.figures, report.searches
    searched = [pair for search in searches for pair in search.figures.items()]
    untitled = {name: _untitled(figure) for name, figure in (*figures.items(), *searched)}
    groups = [[key for key in figures if key.startswith(name)] for name in _GROUPS]
    shown = "".join(_group({key: figures[key] for key in group}, report.study) for group in groups)
    return f'<h2 id="figures">Figures</h2>{shown}{_searches(searches, report.study)}{plot_script(untitled)}'


def _untitled(figure: go.Figure) -> go.Figure:
    """Take the title out of a figure; on a page it is a heading that can wrap."""
    return go.Figure(figure).update_layout(title_text=None, margin_t=12, height=None)


def _searches(searches: Sequence[CellSearch], study: ReportInput) -> str:
    """Return every cell's search, folded away."""
    return "".join(_search(search, study) for search in searches)


def _search(search: CellSearch, study: ReportInput) -> str:
    figures = "".join(_group({name: figure}, study) for name, figure in search.figures.items())
    place = f"{SUMMARY}/searches/{search.key.id}/title"
    summary = tagged("summary", f"The search of {search.key.id}", place)
    return f"<details>{summary}{search.leaderboard.to_html()}{figures}</details>"


def _group(figures: Mapping[str, go.Figure], study: ReportInput) -> str:
    """Return figures that are read alike, side by side where there is room, over one caption."""
    if not figures:
        return ""
    plots = "".join(_plot(name, figure) for name, figure in figures.items())
    shown = f'<div class="multiples">{plots}</div>' if len(figures) > 1 else plots
    first, figure = next(iter(figures.items()))
    caption = tagged("span", figure.layout.meta["caption"], f"{SUMMARY}/figures/{first}/caption")
    source = f'<span class="source">{_provenance(study)}</span>'
    return f"<figure>{shown}<figcaption>{caption}{source}</figcaption></figure>"


def _plot(name: str, figure: go.Figure) -> str:
    note, at = figure.layout.meta["note"], f"{SUMMARY}/figures/{name}"
    shown = tagged("p", note, f"{at}/note", **{"class": "note"}) if note else ""
    title = figure.layout.title.text
    label = html.escape(title, quote=True)
    size = f"height: {figure.layout.height}px"
    plot = f'<div class="plot" id="{name}" role="img" aria-label="{label}" style="{size}"></div>'
    return f"<div>{tagged('h3', title, f'{at}/title')}{plot}{shown}</div>"


def _provenance(study: ReportInput) -> str:
    return marked_up(study.provenance.line(at=f"{SUMMARY}/provenance"))
