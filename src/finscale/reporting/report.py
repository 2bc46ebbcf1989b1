"""The report: verdict first, then figures, tables and the checklist, in one self-contained HTML file.

Every number in its text and tables names, in ``data-record``, the place in ``scaling_summary.json`` it was
read from, and in ``data-form`` how it is written (`finscale.core.citation`).
"""

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from finscale.core.citation import show
from finscale.reporting.long_context_section import LongContextSection
from finscale.reporting.page import page, plot_script
from finscale.reporting.quantile_section import QuantileSection
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
        _header(report),
        _verdict(report),
        _facts(study),
        _cautions(report),
        _figures(report),
        _power(report),
        f'<h2 id="tables">Tables</h2>{"".join(table.to_html() for table in report.tables[:-1])}',
        f'<div class="checklist" id="checklist">{report.tables[-1].to_html()}</div>',
        _quantiles(report),
        _long_context(report),
        _script(report),
        f"<footer>finscale · {_provenance(study)}</footer>",
    ]
    return page(f"{study.title} - scaling report", "\n".join(parts))


def _header(report: Report) -> str:
    study, sections = report.study, {"quantiles": report.quantiles, "long-context": report.long_context}
    further = [name for name, found in sections.items() if found]
    names = ("verdict", "figures", "power", "tables", "checklist", *further)
    links = "".join(f'<a href="#{name}">{name.capitalize().replace("-", " ")}</a>' for name in names)
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
    figures = report.figures
    groups = [[key for key in figures if key.startswith(name)] for name in _GROUPS]
    source = _provenance(report.study)
    shown = "".join(_group({key: figures[key] for key in group}, source) for group in groups)
    return f'<h2 id="figures">Figures</h2>{shown}{_searches(report.searches, source)}'


def _script(report: Report) -> str:
    """Return what draws every figure; it has to stand after all of them."""
    searched = [pair for search in report.searches for pair in search.figures.items()]
    untitled = {name: _untitled(figure) for name, figure in (*report.figures.items(), *searched)}
    for cell in report.quantiles.values():
        untitled |= {name: _untitled(figure) for name, figure in cell.figures.items()}
    for section in report.long_context.values():
        untitled |= {name: _untitled(figure, top=40) for name, figure in section.drawn.items()}
    return plot_script(untitled)


def _untitled(figure: go.Figure, *, top: int = 12) -> go.Figure:
    """Take the title out of a figure; on a page it is a heading that can wrap."""
    return go.Figure(figure).update_layout(title_text=None, margin_t=top, height=None)


def _searches(searches: Sequence[CellSearch], source: str) -> str:
    """Return every cell's search, folded away."""
    return "".join(_search(search, source) for search in searches)


def _search(search: CellSearch, source: str) -> str:
    figures = "".join(_group({name: figure}, source) for name, figure in search.figures.items())
    place = f"{SUMMARY}/searches/{search.key.id}/title"
    summary = tagged("summary", f"The search of {search.key.id}", place)
    return f"<details>{summary}{search.leaderboard.to_html()}{figures}</details>"


def _quantiles(report: Report) -> str:
    """Return what every cell's quantiles amount to; all but the largest cell's figures are folded away."""
    if not report.quantiles:
        return ""
    said = "".join(_said_of_quantiles(cell, section) for cell, section in report.quantiles.items())
    cells = "".join(
        _cell_quantiles(cell, section, _provenance(report.study), is_open=i == 0)
        for i, (cell, section) in enumerate(report.quantiles.items())
    )
    return f'<h2 id="quantiles">Quantiles</h2>{said}{cells}'


def _said_of_quantiles(cell: str, section: QuantileSection) -> str:
    at = f"{SUMMARY}/quantiles/{cell}"
    flagged = "".join(tagged("li", text, f"{at}/cautions/{i}") for i, text in enumerate(section.cautions))
    loud = f'<section class="cautions"><ul>{flagged}</ul></section>' if flagged else ""
    return loud + "".join(
        tagged("p", text, f"{at}/sentences/{i}") for i, text in enumerate(section.sentences)
    )


def _cell_quantiles(cell: str, section: QuantileSection, source: str, *, is_open: bool) -> str:
    groups: dict[str, dict[str, go.Figure]] = {}
    for name, figure in section.figures.items():
        groups.setdefault(figure.layout.meta["caption"], {})[name] = figure
    figures = "".join(_group(group, source) for group in groups.values())
    summary = tagged("summary", section.title, f"{SUMMARY}/quantiles/{cell}/title")
    return f"<details{' open' if is_open else ''}>{summary}{section.table.to_html()}{figures}</details>"


def _long_context(report: Report) -> str:
    """Return what finished long-context evaluations say, block by block."""
    if not report.long_context:
        return ""
    blocks = "".join(_block(block, section) for block, section in report.long_context.items())
    return f'<h2 id="long-context">Long context</h2>{blocks}'


def _block(block: str, section: LongContextSection) -> str:
    at = f"{SUMMARY}/long_context/{block}"
    source = tagged("span", section.provenance, f"{at}/provenance")
    said = "".join(tagged("p", text, f"{at}/sentences/{i}") for i, text in enumerate(section.sentences))
    note = tagged("p", section.note, f"{at}/note", **{"class": "note"}) if section.note else ""
    tables = "".join(table.to_html() for table in section.tables)
    figures = "".join(_group({name: figure}, source) for name, figure in section.drawn.items())
    return f"{tagged('h3', section.experiment_name, f'{at}/experiment_name')}{said}{note}{tables}{figures}"


def _group(figures: Mapping[str, go.Figure], source: str) -> str:
    """Return figures that are read alike, side by side where there is room, over one caption."""
    if not figures:
        return ""
    plots = "".join(_plot(name, figure) for name, figure in figures.items())
    shown = f'<div class="multiples">{plots}</div>' if len(figures) > 1 else plots
    first, figure = next(iter(figures.items()))
    caption = tagged("span", figure.layout.meta["caption"], f"{SUMMARY}/figures/{first}/caption")
    told = f'<span class="source">{source}</span>'
    return f"<figure>{shown}<figcaption>{caption}{told}</figcaption></figure>"


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
