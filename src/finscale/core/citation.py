"""Numbers in a sentence that say which record they came from.

A cited number stands in its sentence between private-use characters, as a link would: the sentence stays one
string. A page unfolds it into elements (`pieces`), everything else reads it `plain`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from finscale.core.budgets import format_n

__all__ = ["FORMS", "Piece", "cite", "pieces", "plain", "resolve", "show"]

_OPEN, _BETWEEN, _CLOSE = "\ue000", "\ue001", "\ue002"
_CITED = re.compile(f"{_OPEN}([^{_BETWEEN}]*){_BETWEEN}([^{_BETWEEN}]*){_BETWEEN}([^{_CLOSE}]*){_CLOSE}")


class Piece(NamedTuple):
    """A stretch of a sentence; ``record`` and ``form`` are empty between the cited numbers."""

    text: str
    record: str = ""
    form: str = ""


def _loss(value: float) -> str:
    size = abs(value)
    return f"{value:.{4 if size >= 1e-3 or size == 0 else 5 if size >= 1e-4 else 6}f}"


def _amount(value: float) -> str:
    """Three significant digits, without an exponent where a reader can do without."""
    return f"{value:,.0f}" if 100 <= value < 1e7 else f"{value:.3g}"


def _range(values: list[Any]) -> str:
    return " to ".join(dict.fromkeys(str(value) for value in values))


FORMS: Final[Mapping[str, Callable[[Any], str]]] = {
    "text": str,
    "words": lambda value: str(value).replace("_", " "),
    "length": lambda values: str(len(values)),
    "list": lambda values: ", ".join(map(str, values)),
    "range": _range,
    "amount": _amount,
    "n": format_n,
    "n range": lambda values: "\N{EN DASH}".join(dict.fromkeys(map(format_n, values))),
    "loss": _loss,
    "minus loss": lambda value: _loss(-value),
    "interval": lambda ends: f"{ends[0]:+.4f} to {ends[1]:+.4f}",
    "p": lambda value: "< 0.001" if value < 0.001 else f"= {value:.3f}",
    "p value": lambda value: "< 0.001" if value < 0.001 else f"{value:.3f}",
    "percent": lambda value: f"{100 * value:g}",
    "rest of 100": lambda value: f"{100 * (1 - value):g}",
}
"""How a record is written; any other form is a format specification of Python (``.4f``)."""


def show(value: Any, form: str) -> str:
    """Write a record's value as its form says; empty where there is none.

    Examples
    --------
    >>> show(0.00412, "loss"), show(19_912_345, "n"), show(0.5, "+.2f"), show(None, ".4f")
    ('0.0041', '19.9M', '+0.50', '')
    """
    if value is None or (isinstance(value, list | tuple) and not value):
        return ""
    return FORMS[form](value) if form in FORMS else format(value, form)


def cite(value: Any, record: str, form: str = "text") -> str:
    """Write a value and, invisibly, the record that holds it.

    Parameters
    ----------
    record : str
        A file and a JSON pointer into it (RFC 6901): ``scaling_summary.json#/val_score/overall/drop``.
    form : str
        See `show`.
    """
    return f"{_OPEN}{record}{_BETWEEN}{form}{_BETWEEN}{show(value, form)}{_CLOSE}"


def plain(text: str) -> str:
    """Return a sentence without its citations.

    Examples
    --------
    >>> plain(f"It falls by {cite(0.5, 'a.json#/drop', '.1f')}.")
    'It falls by 0.5.'
    """
    return _CITED.sub(lambda found: found[3], text)


def pieces(text: str) -> list[Piece]:
    """Cut a sentence into its cited numbers and what stands between them."""
    found, end = [], 0
    for match in _CITED.finditer(text):
        record, form, shown = match.groups()
        found += [Piece(text[end : match.start()]), Piece(shown, record, form)]
        end = match.end()
    return [piece for piece in (*found, Piece(text[end:])) if piece.text]


def resolve(document: Any, pointer: str) -> Any:
    """Follow a JSON pointer (RFC 6901) into a document.

    Raises
    ------
    LookupError
        Where the document has no such place.

    Examples
    --------
    >>> resolve({"a": [{"b/c": 3}]}, "/a/0/b~1c")
    3
    """
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document
