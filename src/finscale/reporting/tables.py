"""Tables of values, and the same values as HTML, as Markdown and as the record that their numbers cite."""

import html
import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from finscale.core.citation import pieces, plain, show
from finscale.core.config import Record

__all__ = [
    "SUMMARY",
    "Cell",
    "Column",
    "Table",
    "count",
    "interval",
    "marked_up",
    "number",
    "signed",
    "tagged",
]

SUMMARY = "scaling_summary.json#"
"""The record beside a report; what follows is a JSON pointer into it."""

Align = Literal["left", "right"]
_LOOSE_MINUS = re.compile(r"(?<![\w.-])-(?=\d|\W|$)")


class Column(Record):
    """A heading and the side its cells keep to."""

    name: str
    align: Align = "right"


class Cell(Record):
    """A value and how it is written (`finscale.core.citation.show`); None is nothing."""

    value: Any = None
    form: str = "text"

    def __str__(self) -> str:
        return show(self.value, self.form)


def _as_cell(value: Any) -> Any:
    return Cell(value=value or None) if isinstance(value, str) else value


class Table(Record):
    """A titled table.

    Attributes
    ----------
    rows : tuple of tuple of Cell
        One per column; a string is a cell of text. Cells without a value are shown as a dash.
    note : str
        What a reader must know to read it, in a sentence or two.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Annotated[Cell, BeforeValidator(_as_cell)], ...], ...]
    note: str = ""

    @property
    def key(self) -> str:
        """The table's name in the record: its title in lower case."""
        return re.sub(r"\W+", "_", self.title.lower()).strip("_")

    def record(self) -> dict[str, Any]:
        """Return the table as JSON values: every cell that the page shows, at full precision."""
        names = [column.name for column in self.columns]
        rows = [dict(zip(names, (_plain(cell.value) for cell in row), strict=True)) for row in self.rows]
        return {"title": self.title, "columns": names, "rows": rows, "note": plain(self.note)}

    def to_markdown(self) -> str:
        """Return a GitHub-flavoured Markdown table under its title."""
        rule = ["---:" if column.align == "right" else "---" for column in self.columns]
        lines = [[column.name for column in self.columns], rule, *self.rows]
        body = "\n".join(
            "| " + " | ".join((str(word) or "-").replace("|", "\\|") for word in line) + " |"
            for line in lines
        )
        note = f"\n\n{plain(self.note)}" if self.note else ""
        return f"### {self.title}\n\n{body}{note}\n"

    def to_html(self) -> str:
        """Return a ``<table>`` in a box that scrolls sideways when it must; every cell cites its record."""
        at = f"{SUMMARY}/tables/{self.key}"
        heads = "".join(
            tagged("th", column.name, f"{at}/columns/{i}", scope="col", **{"class": column.align})
            for i, column in enumerate(self.columns)
        )
        body = "".join(f"<tr>{self._row(i, at)}</tr>" for i in range(len(self.rows)))
        note = tagged("p", self.note, f"{at}/note", **{"class": "note"}) if self.note else ""
        return (
            f'<section class="table">{tagged("h3", self.title, f"{at}/title")}'
            f'<div class="scroll" tabindex="0"><table><thead><tr>{heads}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>{note}</section>"
        )

    def _row(self, i: int, at: str) -> str:
        cells = zip(self.columns, self.rows[i], strict=True)
        return "".join(
            tagged(
                "td",
                str(cell) or "\N{EN DASH}",
                f"{at}/rows/{i}/{_escaped(column.name)}",
                cell.form,
                **{"class": column.align},
            )
            for column, cell in cells
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _escaped(name: str) -> str:
    """Escape a step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def tagged(tag: str, text: str, record: str, form: str = "text", **attributes: str) -> str:
    """Return an element whose text is what ``record`` holds, written in ``form``."""
    given = {**attributes, "data-record": record} | ({} if form == "text" else {"data-form": form})
    listed = "".join(f' {name}="{html.escape(value)}"' for name, value in given.items())
    return f"<{tag}{listed}>{marked_up(text)}</{tag}>"


def marked_up(text: str) -> str:
    """Return a sentence as HTML: its cited numbers as elements, a number's minus as a minus."""
    return "".join(
        tagged("span", piece.text, piece.record, piece.form)
        if piece.record
        else _LOOSE_MINUS.sub("\N{MINUS SIGN}", html.escape(piece.text))
        for piece in pieces(text)
    )


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def number(value: float | None, digits: int = 4) -> Cell:
    """Return a number with fixed digits; empty when it is missing or NaN.

    Examples
    --------
    >>> str(number(0.69314, 3)), str(number(float("nan")))
    ('0.693', '')
    """
    return Cell(value=_known(value), form=f".{digits}f")


def signed(value: float | None, digits: int = 4) -> Cell:
    """Return a number with its sign; empty when it is missing or NaN."""
    return Cell(value=_known(value), form=f"+.{digits}f")


def count(value: float | None) -> Cell:
    """Return a whole number; empty when it is missing or NaN."""
    known = _known(value)
    return Cell(value=None if known is None else int(known), form="d")


def interval(low: float | None, high: float | None) -> Cell:
    """Return both ends of an interval with their signs; empty when one is missing."""
    ends = (_known(low), _known(high))
    return Cell(value=None if None in ends else ends, form="interval")
