"""Tables as plain rows, and the same rows as HTML and as Markdown."""

import html
import math
import re
from collections.abc import Sequence
from typing import Literal

from finscale.core.config import Record

__all__ = ["Column", "Table", "number", "signed"]

Align = Literal["left", "right"]


class Column(Record):
    """A heading and the side its cells keep to."""

    name: str
    align: Align = "right"


class Table(Record):
    """A titled table of finished strings.

    Attributes
    ----------
    rows : tuple of tuple of str
        One string per column; empty strings are shown as a dash.
    note : str
        What a reader must know to read it, in a sentence or two.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def to_markdown(self) -> str:
        """Return a GitHub-flavoured Markdown table under its title."""
        rule = ["---:" if column.align == "right" else "---" for column in self.columns]
        lines = [[column.name for column in self.columns], rule, *self.rows]
        body = "\n".join(
            "| " + " | ".join(_cell(word).replace("|", "\\|") for word in line) + " |" for line in lines
        )
        note = f"\n\n{self.note}" if self.note else ""
        return f"### {self.title}\n\n{body}{note}\n"

    def to_html(self) -> str:
        """Return a ``<table>`` in a box that scrolls sideways when it must."""
        heads = "".join(
            f'<th scope="col" class="{column.align}">{html.escape(column.name)}</th>'
            for column in self.columns
        )
        body = "".join(f"<tr>{self._row(row)}</tr>" for row in self.rows)
        note = f'<p class="note">{html.escape(self.note)}</p>' if self.note else ""
        return (
            f'<section class="table"><h3>{html.escape(self.title)}</h3><div class="scroll" tabindex="0">'
            f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>{note}</section>"
        )

    def _row(self, row: Sequence[str]) -> str:
        cells = zip(self.columns, row, strict=True)
        return "".join(f'<td class="{column.align}">{_typeset(word)}</td>' for column, word in cells)


def _cell(word: str) -> str:
    return word or "-"


def _typeset(word: str) -> str:
    """Escape, and write a number's minus as a minus."""
    return (
        re.sub(r"(?<![\w.-])-(?=\d|\W|$)", "\N{MINUS SIGN}", html.escape(_cell(word)))
        if word
        else "\N{EN DASH}"
    )


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with fixed digits; empty when it is missing or NaN.

    Examples
    --------
    >>> number(0.69314, 3), number(float("nan"))
    ('0.693', '')
    """
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """Return a number with its sign; empty when it is missing or NaN."""
    return "" if value is None or math.isnan(value) else f"{value:+.{digits}f}"
