"""Every number that a report shows says where it is written down, and is written as it stands there."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from finscale.core.citation import cite, pieces, plain, resolve, show
from finscale.reporting.report import render_report
from finscale.reporting.summary import Report, scaling_summary
from finscale.reporting.tables import SUMMARY

_VOID = ("meta", "br")
_SILENT = ("script", "style", "title")
_CONSTANTS = re.compile(r"at least [34] budgets|80 % power|95 % confidence")


class Walker(HTMLParser):
    """Collects every text with a digit, and the elements with records around it with their whole texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[dict[str, Any]] = []
        self.found: list[tuple[str, list[dict[str, Any]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element["text"] += data
        if re.search(r"\d", data) and not any(element["tag"] in _SILENT for element in self.open):
            self.found.append((data, [e for e in reversed(self.open) if "data-record" in e]))


def walk(document: str) -> list[tuple[str, list[dict[str, Any]]]]:
    walker = Walker()
    walker.feed(re.sub(r"<script>.*?</script>", "", document, flags=re.DOTALL))
    return walker.found


def typed(text: str) -> str:
    """The text as it was typed, before it was typeset."""
    text = text.replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", " ")
    return "" if text == "\N{EN DASH}" else text


def unsourced(document: str, record: Any) -> Iterator[str]:
    """Yield every text with a digit that does not show what the record nearest to it holds."""
    for text, around in walk(document):
        if not around:
            yield f"{text!r} has no record"
            continue
        nearest = around[0]
        file, pointer = nearest["data-record"].split("#")
        held = resolve(record, pointer)
        shown = show(held, nearest.get("data-form", "text"))
        if file != SUMMARY.rstrip("#") or shown != typed(nearest["text"]):
            yield f"{nearest['text']!r} is not {held!r} of {nearest['data-record']}"


@pytest.fixture(scope="module")
def record(composed: Report) -> Any:
    return json.loads(json.dumps(scaling_summary(composed), allow_nan=False))


def test_every_number_shows_what_its_record_holds(report: str, record: Any) -> None:
    assert list(unsourced(report, record)) == []
    assert len(walk(report)) > 300


@pytest.mark.parametrize(
    ("first", "last"), [('<section class="verdict"', "</dl>"), ('<h2 id="power">', '<section class="table">')]
)
def test_every_number_in_prose_and_facts_has_a_record_of_its_own(report: str, first: str, last: str) -> None:
    start = report.index(first)
    found = walk(report[start : report.index(last, start)])
    assert found
    for text, around in found:
        if around[0]["tag"] not in ("span", "dd"):
            assert not re.search(r"\d", _CONSTANTS.sub("", typed(text))), text


def test_a_number_without_its_record_is_found(report: str, record: Any) -> None:
    for planted in ("<p>0.0123 nats</p>", f'<p data-record="{SUMMARY}/facts/trials">17</p>'):
        broken = report.replace('<dl class="facts">', f'{planted}<dl class="facts">', 1)
        assert len(list(unsourced(broken, record))) == 1


def test_rendering_twice_gives_the_same_text(composed: Report, report: str) -> None:
    assert render_report(composed) == report


def test_a_cited_sentence_is_read_plain_and_unfolds_into_its_numbers() -> None:
    sentence = f"From {cite(0.00041, 'a.json#/x', 'loss')} to {cite(2_000_000, 'a.json#/n', 'n')}."
    assert plain(sentence) == "From 0.00041 to 2M."
    assert [piece.text for piece in pieces(sentence)] == ["From ", "0.00041", " to ", "2M", "."]
    assert [piece.record for piece in pieces(sentence)] == ["", "a.json#/x", "", "a.json#/n", ""]


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (-0.0041, "minus loss", "0.0041"),
        (0.05, "rest of 100", "95"),
        ([3, 3], "range", "3"),
        ([3, 5], "range", "3 to 5"),
        ([0.0012, -0.5], "interval", "+0.0012 to -0.5000"),
        (0.0004, "p", "< 0.001"),
        (0.012, "p", "= 0.012"),
        ([], "list", ""),
        (None, ".4f", ""),
    ],
)
def test_a_record_is_written_in_the_form_that_is_named(value: Any, form: str, shown: str) -> None:
    assert show(value, form) == shown
