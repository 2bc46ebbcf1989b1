"""A report's content, made once: its tables, figures and sentences, and the record that its numbers cite."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from finscale.core.citation import cite, plain
from finscale.reporting.cautions import cautions
from finscale.reporting.comparisons import Standing, standing
from finscale.reporting.figures import main_figures
from finscale.reporting.long_context_section import LongContextSection, read_sections
from finscale.reporting.power import PowerReport, power_report, power_table
from finscale.reporting.quantile_section import QuantileSection
from finscale.reporting.searches import CellSearch, cell_searches
from finscale.reporting.study import ReportInput
from finscale.reporting.study_tables import study_tables
from finscale.reporting.tables import SUMMARY, Table
from finscale.scalinglaws.sentences import cited_sentences, headline
from finscale.scalinglaws.verdict import ScalingVerdict

__all__ = [
    "Report",
    "all_tables",
    "compose",
    "facts",
    "power_sentences",
    "scaling_summary",
    "spoken",
    "summary_markdown",
]


@dataclass(frozen=True, eq=False)
class Report:
    """What a report shows, whatever its form.

    Attributes
    ----------
    tables : tuple of Table
        In reading order; the checklist comes last.
    power_table : Table or None
        Of ``power``, where noise was measured.
    figures : mapping
        By name, with caption, note and provenance in ``layout.meta``.
    searches : tuple of CellSearch
        Leaderboard and figures of every cell's search.
    standing : Standing or None
        Against the best baselines.
    warnings : tuple of str
    long_context : mapping
        Of every finished long-context evaluation, by block.
    quantiles : mapping
        Of every cell that forecast quantiles.
    """

    study: ReportInput
    tables: tuple[Table, ...]
    power: PowerReport
    power_table: Table | None
    figures: Mapping[str, go.Figure]
    searches: tuple[CellSearch, ...]
    standing: Standing | None
    warnings: tuple[str, ...]
    long_context: Mapping[str, LongContextSection]
    quantiles: Mapping[str, QuantileSection]


def compose(
    study: ReportInput,
    *,
    long_context: Mapping[str, Mapping[str, Any]] | None = None,
    quantiles: Mapping[str, QuantileSection] | None = None,
) -> Report:
    """Draw every figure and lay out every table of a study.

    Equal input gives equal content.

    Parameters
    ----------
    study : ReportInput
        The experiment.
    long_context : mapping or None
        By block, what a long-context evaluation left for this report (`LongContextSection`).
    quantiles : mapping or None
        By cell, of `finscale.reporting.quantile_section.quantile_sections`.

    Raises
    ------
    FinscaleError
        When that cannot be read.
    """
    power = power_report(study)
    return Report(
        study=study,
        tables=study_tables(study),
        power=power,
        power_table=power_table(power),
        figures=main_figures(study),
        searches=cell_searches(study),
        standing=standing(study),
        warnings=cautions(study),
        long_context=read_sections(long_context or {}),
        quantiles=quantiles or {},
    )


def all_tables(report: Report) -> tuple[Table, ...]:
    """Return every table that the report shows: what is here can be cited."""
    power = [report.power_table] if report.power_table else []
    placed = [table for section in report.long_context.values() for table in section.tables]
    quantiles = [section.table for section in report.quantiles.values()]
    searched = [search.leaderboard for search in report.searches]
    return (*report.tables, *power, *searched, *quantiles, *placed)


def spoken(report: Report) -> tuple[str, ...]:
    """Return the sentences of the verdict and what the test period and the baselines add, with citations."""
    study = report.study
    looks = [] if report.standing is None else [report.standing.sentence(f"{SUMMARY}/standing")]
    test = study.test_verdict
    if test is not None and test.overall.horizons:
        name = test.overall.verdict.value.replace("_", " ")
        looks.append(f"The test period, as a second look: {name}. {_said(study, test, 'test')[0]}")
    return (*_said(study, study.verdict, "val_score"), *looks)


def _said(study: ReportInput, verdict: ScalingVerdict, at: str) -> tuple[str, ...]:
    words = {"unit": study.measure.unit, "reference": study.measure.reference_words}
    return cited_sentences(verdict, at=f"{SUMMARY}/{at}", **words)


def power_sentences(report: Report) -> tuple[str, ...]:
    """Say which noise the plans rest on, and what the planned cells could detect."""
    power = report.power
    if power.noise_sd is None:
        return ("No noise has been measured yet: that takes two seeds in a cell, or three budgets.",)
    at = f"{SUMMARY}/power"
    noise = f"{cite(power.noise_sd, f'{at}/noise_sd', 'loss')} {power.unit}"
    drop = power.observed_drop
    seen = (
        ""
        if drop is None
        else f"; the drop measured so far is {cite(drop, f'{at}/observed_drop', 'loss')} {power.unit}"
    )
    return (f"One budget's response scatters by {noise} (standard deviation){seen}.",)


def facts(study: ReportInput) -> dict[str, tuple[Any, str]]:
    """Return the size of the study: name to value and form."""
    sizes = study.verdict.overall.n_params
    return {
        "parameters": ([sizes[0], sizes[-1]] if sizes else [], "n range"),
        "budgets": (len(study.budgets), "d"),
        "horizons (bars)": (list(study.horizons), "list"),
        "seeds per cell": (list(study.verdict.n_seeds), "range"),
        "trials": (len(study.trials), "d"),
    }


def scaling_summary(report: Report) -> dict[str, Any]:
    """Return the content of ``scaling_summary.json``: plain JSON values, None where nothing is known.

    Every number of the report cites its place in here.
    """
    study, test = report.study, report.study.test_verdict
    searched = [pair for search in report.searches for pair in search.figures.items()]
    placed = [pair for section in report.long_context.values() for pair in section.drawn.items()]
    placed += [pair for section in report.quantiles.values() for pair in section.figures.items()]
    return {
        "title": study.title,
        "verdict": study.verdict.overall.verdict.value,
        "headline": headline(study.verdict),
        "sentences": [plain(sentence) for sentence in spoken(report)],
        "unit": study.measure.unit,
        "val_score": study.verdict.model_dump(mode="json"),
        "test": None if test is None else test.model_dump(mode="json"),
        "standing": None if report.standing is None else report.standing.model_dump(mode="json"),
        "power": report.power.model_dump(mode="json"),
        "power_sentences": [plain(sentence) for sentence in power_sentences(report)],
        "facts": {name: value for name, (value, _) in facts(study).items()},
        "missing_cells": list(study.missing),
        "warnings": list(report.warnings),
        "checklist": {str(row[0]): str(row[1]) for row in report.tables[-1].rows},
        "tables": {table.key: table.record() for table in all_tables(report)},
        "figures": {name: _words(figure) for name, figure in (*report.figures.items(), *searched, *placed)},
        "searches": {found.key.id: {"title": f"The search of {found.key.id}"} for found in report.searches},
        "quantiles": {cell: section.words() for cell, section in report.quantiles.items()},
        "long_context": {block: section.words() for block, section in report.long_context.items()},
        "data_card": study.data_card,
        "provenance": study.provenance.model_dump(mode="json"),
    }


def _words(figure: go.Figure) -> dict[str, str]:
    meta = figure.layout.meta
    return {"title": figure.layout.title.text, "caption": meta["caption"], "note": meta["note"]}


def summary_markdown(report: Report) -> str:
    """Return the verdict, the warnings and the tables as Markdown."""
    study, found = report.study, report.warnings
    warnings = ["## Before you rely on this", "", *(f"- {caution}" for caution in found), ""] if found else []
    lines = [
        f"# {study.title}",
        "",
        f"**{headline(study.verdict)}**",
        "",
        *_paragraphs(spoken(report)),
        *warnings,
        "## What more cells could show",
        "",
        *_paragraphs(power_sentences(report)),
        *([report.power_table.to_markdown()] if report.power_table else []),
        "## Tables",
        "",
        *(table.to_markdown() for table in report.tables),
        *(line for section in report.quantiles.values() for line in section.to_markdown()),
        *(line for section in report.long_context.values() for line in section.to_markdown()),
    ]
    return "\n".join([*lines, f"{study.data_card}", "", f"{study.provenance.line()}", ""])


def _paragraphs(sentences: tuple[str, ...]) -> list[str]:
    return [line for sentence in sentences for line in (plain(sentence), "")]
