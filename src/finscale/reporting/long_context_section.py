"""What the main report shows of a finished long-context evaluation."""

import json
from collections.abc import Mapping
from typing import Any, Self

import plotly.graph_objects as go

from finscale.core.config import Record
from finscale.longcontext.task_names import is_placed
from finscale.reporting.long_context_results import LongContextResults
from finscale.reporting.long_context_tables import accuracy_table
from finscale.reporting.tables import Table

__all__ = ["LongContextSection", "read_sections"]

_SHOWN = ("retrieval", "attention_at_the_needle", "loss_against_distance")


class LongContextSection(Record):
    """The headline of one block: ``section.json``.

    Parameters
    ----------
    experiment_name : str
        Of the block.
    sentences : tuple of str
        Of its verdict.
    note : str
        What a reader must know of its rows; may be empty.
    tables : tuple of Table
        Accuracy of every task whose answer stands at one depth.
    figures : dict
        The main ones by name, as Plotly JSON.
    provenance : str
        Where it comes from.
    """

    experiment_name: str
    sentences: tuple[str, ...]
    note: str
    tables: tuple[Table, ...]
    figures: dict[str, dict[str, Any]]
    provenance: str

    @classmethod
    def of(cls, results: LongContextResults, figures: Mapping[str, go.Figure], *, provenance: str) -> Self:
        """Choose from a block's page what belongs into the main report."""
        rows, verdict = results.rows, results.verdict
        placed = [task for task in dict.fromkeys(rows["task"]) if is_placed(task)]
        return cls(
            experiment_name=verdict.experiment_name,
            sentences=verdict.sentences,
            note=results.note,
            tables=tuple(accuracy_table(rows, task) for task in placed),
            figures={name: json.loads(figures[name].to_json()) for name in _SHOWN if name in figures},
            provenance=provenance,
        )

    def named(self, block: str) -> Self:
        """Return it with tables and figures under names of their own, where several blocks share a page."""
        tables = tuple(
            table.model_copy(update={"title": f"{table.title} ({block})"}) for table in self.tables
        )
        figures = {f"{block}_{name}": figure for name, figure in self.figures.items()}
        return self.model_copy(update={"tables": tables, "figures": figures})

    def words(self) -> dict[str, Any]:
        """Return what the report says in sentences, as JSON values."""
        return self.model_dump(mode="json", exclude={"tables", "figures"})

    def to_markdown(self) -> list[str]:
        """Return the lines of its part of a Markdown report."""
        said = [*self.sentences, *([self.note] if self.note else [])]
        paragraphs = [line for sentence in said for line in (sentence, "")]
        tables = [table.to_markdown() for table in self.tables]
        return [f"## Long context: {self.experiment_name}", "", *paragraphs, *tables, self.provenance, ""]

    @property
    def drawn(self) -> dict[str, go.Figure]:
        """The figures as figures."""
        return {name: go.Figure(figure) for name, figure in self.figures.items()}


def read_sections(found: Mapping[str, Mapping[str, Any]]) -> dict[str, LongContextSection]:
    """Read the section of every block, each with names of its own.

    Raises
    ------
    FinscaleError
        When one of them is not what this version writes; its evaluation is to be drawn again.
    """
    return {
        block: LongContextSection.read(section, subject=f"section.json of {block}").named(block)
        for block, section in found.items()
    }
