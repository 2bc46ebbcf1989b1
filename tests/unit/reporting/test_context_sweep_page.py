"""The page of a context sweep shows each context's loss, what is told apart, and why nothing was hidden."""

import pandas as pd
import plotly.graph_objects as go
import pytest

from finscale.longcontext.context_differences import Difference
from finscale.longcontext.context_sentences import context_sentences
from finscale.longcontext.context_verdict import ContextRow, ContextVerdict, SplitVerdict
from finscale.reporting.context_sweep import context_table, loss_against_context, render_context_sweep

GAP = Difference(mean=0.02, low=0.01, high=0.04, p_value=0.001, adjusted=0.002, n_dates=300)
LEAD = Difference(mean=0.05, low=0.02, high=0.08, p_value=0.001, adjusted=0.003, n_dates=300)


def row(kind: str, n_bars: int, loss: float, *, whole: int = 40) -> ContextRow:
    return ContextRow(
        kind=kind,
        context_length=n_bars,
        n_seeds=2,
        loss=loss,
        gap=None if n_bars == whole else GAP,
        lead=LEAD if kind == "trained" else None,
    )


@pytest.fixture
def verdict() -> ContextVerdict:
    rows = [
        row("trained", 10, 0.64),
        row("trained", 20, 0.63),
        row("trained", 40, 0.62),
        row("hidden", 10, 0.7),
    ]
    splits = [
        SplitVerdict(
            split=split,
            answer="whole_context",
            enough=40,
            seed_sd=0.01,
            rows=tuple(rows),
            baselines={"garch": 0.6, "base_rate": 0.67},
        )
        for split in ("val_score", "test")
    ]
    facts = {"words": "log loss", "unit": "nats", "reference": "base_rate", "hidden": ""}
    return ContextVerdict(cell="20K_h1", context_length=40, splits=tuple(splits), **facts)


@pytest.fixture
def scores() -> pd.DataFrame:
    places = [("trained", 10), ("trained", 20), ("trained", 40), ("hidden", 10)]
    return pd.DataFrame(
        [
            {
                "kind": kind,
                "context_length": n,
                "seed": seed,
                "split": split,
                "n_params": 1000 + n,
                "log_loss": 0.6,
            }
            for kind, n in places
            for seed in (0, 1)
            for split in ("val_select", "val_score", "test")
        ]
    )


@pytest.fixture
def figure(verdict: ContextVerdict, scores: pd.DataFrame) -> go.Figure:
    return loss_against_context(verdict, scores, loss="log_loss", title="<Loss>", provenance="commit abc")


def test_both_kinds_are_lines_that_end_at_the_whole_context(figure: go.Figure) -> None:
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(lines) == 2 * 2
    trained, hidden = lines[:2]
    assert (list(trained.customdata), list(trained.y)) == ([10, 20, 40], [0.64, 0.63, 0.62])
    assert (list(hidden.customdata), list(hidden.y)) == ([10, 40], [0.7, 0.62])
    assert [trace.showlegend for trace in lines] == [True, True, False, False]
    assert figure.layout.xaxis.type == figure.layout.xaxis2.type == "log"


def test_bars_reach_from_the_loss_as_far_as_its_difference_may(figure: go.Figure) -> None:
    trained = next(trace for trace in figure.data if trace.mode == "lines+markers")
    assert trained.error_y.array[:2] == pytest.approx((0.02, 0.02))
    assert trained.error_y.arrayminus[:2] == pytest.approx((0.01, 0.01))
    assert (trained.error_y.array[2], trained.error_y.arrayminus[2]) == (None, None)


def test_reference_best_baseline_and_the_level_of_the_whole_context_are_drawn_in_every_panel(
    figure: go.Figure,
) -> None:
    levels = [(shape.yref, shape.y0) for shape in figure.layout.shapes]
    for axis in ("y", "y2"):
        assert {level for where, level in levels if where == axis} == {0.62, 0.67, 0.6}
    assert {note.text for note in figure.layout.annotations} >= {"base rate", "garch"}


def test_every_seed_is_a_point_of_its_own_panel_and_kind(figure: go.Figure) -> None:
    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert [len(trace.x) for trace in points] == [6, 2, 6, 2]


def test_the_table_lists_every_context_with_its_own_n_and_says_why_nothing_was_hidden(
    verdict: ContextVerdict, scores: pd.DataFrame
) -> None:
    shown = [
        [str(cell) for cell in cells] for cells in context_table(verdict, scores, verdict.splits[0]).rows
    ]
    assert [cells[:4] for cells in shown] == [
        ["10", "trained", "1010", "2"],
        ["20", "trained", "1020", "2"],
        ["40", "trained", "1040", "2"],
        ["10", "hidden", "1010", "2"],
    ]
    assert shown[0][4:8] == ["0.6400", "+0.0200", "+0.0100 to +0.0400", "0.002"]
    assert shown[2][5:8] == ["", "", ""]
    assert shown[3][8:] == [""]
    mute = verdict.model_copy(update={"hidden": "this dlinear cannot read masks"})
    assert context_table(mute, scores, mute.splits[0]).note.endswith(
        "No bars were hidden: this dlinear cannot read masks."
    )


def test_the_page_says_every_sentence_and_escapes_what_it_was_given(
    verdict: ContextVerdict, scores: pd.DataFrame, figure: go.Figure
) -> None:
    page = render_context_sweep(
        verdict, scores, figure, title="<b>Bars</b>", data_card="500 bars", provenance="commit abc"
    )
    assert all(sentence in page for sentence in context_sentences(verdict))
    assert "<b>Bars</b>" not in page
    assert "&lt;Loss&gt;" in page
    assert page.count('class="plot" id="context_20K_h1"') == 1
