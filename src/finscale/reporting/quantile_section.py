"""What the report shows of a cell's quantiles: sentences that follow from the numbers, a table, figures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from finscale.core.budgets import Cell as CellId
from finscale.reporting.cautions import flagged
from finscale.reporting.quantile_evidence import ALL, MODEL, Estimate, QuantileEvidence, gather_evidence
from finscale.reporting.quantile_figures import quantile_figures
from finscale.reporting.study import CellKey, ReportInput
from finscale.reporting.tables import Cell, Column, Table, interval, number, signed

__all__ = ["QuantileSection", "quantile_sections", "quantile_sentences"]

TOO_FAR: Final = 3.0
"""Points by which coverage may miss before the report says so."""


@dataclass(frozen=True, eq=False)
class QuantileSection:
    """One cell.

    Attributes
    ----------
    title : str
    sentences, cautions : tuple of str
        What follows from the numbers, and the flags that its runs raised.
    table : Table
        Every score at every horizon, beside both climatologies.
    figures : mapping
        By name, with caption, note and provenance in ``layout.meta``.
    """

    title: str
    sentences: tuple[str, ...]
    cautions: tuple[str, ...]
    table: Table
    figures: Mapping[str, go.Figure]

    def words(self) -> dict[str, Any]:
        """Return what the page says in sentences, as JSON values."""
        return {
            "title": self.title,
            "sentences": list(self.sentences),
            "cautions": list(self.cautions),
        }

    def to_markdown(self) -> list[str]:
        """Return the lines of its part of a Markdown report."""
        flagged = [line for caution in self.cautions for line in (f"**{caution}**", "")]
        said = [line for sentence in self.sentences for line in (sentence, "")]
        return [f"## {self.title}", "", *flagged, *said, self.table.to_markdown()]


def quantile_sections(
    study: ReportInput,
    rows: Mapping[str, Callable[[], pd.DataFrame]],
    scores: Mapping[str, pd.DataFrame],
) -> dict[str, QuantileSection]:
    """Return the section of every cell of a study that forecast quantiles, the largest first.

    Parameters
    ----------
    study : ReportInput
        Says which cells count, and what flags their runs raised.
    rows, scores : mapping
        By cell id, `finscale.training.quantile_tables`; rows are read one cell at a time.
    """
    cells = study.cells[["n_budget", "budget", "horizon"]].drop_duplicates()
    ordered = cells.sort_values(["n_budget", "horizon"], ascending=[False, True])
    ids = [CellKey(*key).id for key in zip(ordered["budget"], ordered["horizon"], strict=True)]
    scored = {cell for cell, table in scores.items() if (table["forecast"] == MODEL).any()}
    asked = [cell for cell in ids if cell in rows and cell in scored]
    return {cell: _section(study, cell, rows[cell](), scores[cell]) for cell in asked}


def _section(study: ReportInput, cell: str, rows: pd.DataFrame, scores: pd.DataFrame) -> QuantileSection:
    key, cells = CellId.from_id(cell), study.cells
    own = cells[(cells["budget"] == key.budget) & (cells["horizon"] == key.horizon)]
    evidence = gather_evidence(rows, scores, seed=study.seed, n_draws=study.n_draws)
    figures = quantile_figures(evidence, name=cell)
    for figure in figures.values():
        figure.update_layout(meta={**figure.layout.meta, "provenance": study.provenance.line()})
    return QuantileSection(
        title=f"Quantiles of {cell}",
        sentences=quantile_sentences(evidence, cell),
        cautions=tuple(flagged(study, own)),
        table=_table(evidence, cell),
        figures=figures,
    )


def quantile_sentences(evidence: QuantileEvidence, cell: str) -> tuple[str, ...]:
    """Say whether the scored horizon beats the scaled climatology, and where coverage is off."""
    horizon = CellId.from_id(cell).horizon
    return (_skill_sentence(evidence, cell, horizon), _coverage_sentence(evidence))


def _skill_sentence(evidence: QuantileEvidence, cell: str, horizon: int) -> str:
    (found,) = (skill for skill in evidence.judge("skill") if skill.horizon == horizon)
    ends = f", 95 % interval {found.low:+.4f} to {found.high:+.4f}" if found.is_told else ""
    return (
        f"{cell}, on {evidence.n_dates} test dates: at horizon {horizon} its {evidence.judged} quantiles "
        f"{_standing(found)} (skill {found.value:+.4f}{ends})."
    )


def _standing(skill: Estimate) -> str:
    if not skill.is_told:
        return "cannot be told from volatility-scaled climatology: there are too few dates"
    if not skill.excludes(0):
        return "do not beat volatility-scaled climatology: no difference is detected"
    side = "lower" if skill.value > 0 else "higher"
    return f"have a {side} pinball loss than volatility-scaled climatology"


def _coverage_sentence(evidence: QuantileEvidence) -> str:
    found, whose = evidence.judge("coverage"), f"Of the {evidence.judged} quantiles'"
    if not found:
        return "No level has a partner, so that there are no intervals to cover anything."
    missed = [one for one in found if round(abs(100 * one.value - one.at), 6) > TOO_FAR]
    if not missed:
        return f"{whose} central intervals, each covers within {TOO_FAR:g} points of what it names."
    certain = sum(one.excludes(one.at / 100) for one in missed)
    named = "; ".join(
        f"{one.at:g} % at horizon {one.horizon} cover {100 * one.value:.1f} %" for one in missed
    )
    return (
        f"{whose} {len(found)} central intervals, {len(missed)} cover more than {TOO_FAR:g} points off what "
        f"they name, {certain} of them by more than their 95 % interval allows: {named}."
    )


def _table(evidence: QuantileEvidence, cell: str) -> Table:
    """Lay out every score, a row per horizon and forecast; seeds' mean and range."""
    shares = evidence.intervals
    heads = ("horizon", "forecast", "pinball (σ)", "seeds", "CRPS (σ)", "skill", "95 %")
    covers = (*(f"{share} % covers" for share in shares), *(f"{share} % width (σ)" for share in shares[-1:]))
    columns = (*heads, *covers, "off (points)")
    rows = [
        _row(evidence, horizon, label, shares) for horizon in evidence.horizons for label in evidence.labels
    ]
    note = (
        "Pinball loss: mean over the levels; CRPS: twice a weighted mean of it. Skill: 1 less the pinball "
        "loss over that of the scaled climatology; 95 % by blocks of dates, seeds averaged. Seeds: lowest to "
        "highest. Off: mean distance of the levels from the shares of outcomes at or below them. σ is the "
        "trailing volatility of one bar."
    )
    left = {"forecast"}
    return Table(
        title=f"Quantiles of {cell} on the test period",
        columns=tuple(Column(name=name, align="left" if name in left else "right") for name in columns),
        rows=tuple(rows),
        note=note,
    )


def _row(
    evidence: QuantileEvidence, horizon: int, label: str, shares: tuple[int, ...]
) -> tuple[Cell | str, ...]:
    scores = evidence.scores
    own = scores[(scores["horizon"] == horizon) & (scores["label"] == label) & (scores["regime"] == ALL)]
    mean, losses = own.mean(numeric_only=True), own["pinball_loss"]
    skill = next((one for one in evidence.judge("skill", label=label) if one.horizon == horizon), None)
    between = [f"{end:.4f}" for end in (losses.min(), losses.max())] if len(losses) > 1 else []
    return (
        Cell(value=horizon, form="d"),
        label,
        number(mean["pinball_loss"]),
        Cell(value=tuple(between) or None, form="range"),
        number(mean["crps"]),
        signed(skill.value if skill else None),
        interval(skill.low, skill.high) if skill else Cell(),
        *(number(100 * mean[f"coverage_{share}"], 1) for share in shares),
        *(number(mean[f"width_{share}"], 2) for share in shares[-1:]),
        number(100 * mean["calibration_error"], 2),
    )
