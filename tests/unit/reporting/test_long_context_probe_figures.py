"""What was seen inside decoders is drawn as it was measured."""

import itertools
import math

import pandas as pd
import plotly.graph_objects as go
import pytest

from finscale.longcontext.attention_probe import AttentionRow, attention_table
from finscale.longcontext.distance_probe import DistanceRow, distance_table, pooled_losses
from finscale.longcontext.position_probe import PositionRow, position_table
from finscale.reporting.long_context import mode_styles
from finscale.reporting.long_context_positions import discrepancy_table, position_figures
from finscale.reporting.long_context_probes import (
    attention_along_the_haystack,
    attention_at_the_needle,
    loss_against_distance,
)

LABELS = {"title": "demo", "provenance": "commit abc"}


@pytest.fixture(scope="module")
def attention() -> pd.DataFrame:
    """Two seeds of two decoders; the head that finds the needle has another number in each seed."""
    rows = []
    places = itertools.product(
        ("needle", "latest"), (64, 256), (0.1, 0.9), ("rope", "none"), (0, 1), (0, 1), (0, 1)
    )
    for task, length, depth, mode, seed, layer, head in places:
        finds = layer == 1 and head == seed
        weight = (0.8 if finds else 0.1) - (0.2 if length == 256 else 0) * finds + 0.01 * seed
        profile = [0.0] * 11
        profile[int(depth * 10)], profile[-1] = weight, 1 - weight
        row = {"task": task, "length": length, "depth": depth, "mode": mode, "seed": seed}
        sizes = {"layer": layer, "head": head, "n": 4, "weight": weight, "stderr": 0.02, "earlier": 0.05}
        rows.append(AttentionRow(**row, **sizes, profile=tuple(profile)))
    return attention_table(rows)


def test_the_heads_of_several_seeds_stand_together_by_what_they_find(attention: pd.DataFrame) -> None:
    figure = attention_at_the_needle(attention, **LABELS)
    assert [panel.text for panel in figure.layout.annotations] == ["rope", "none"]
    heat = figure.data[0]
    assert list(heat.y) == ["1.1", "1.2", "2.1", "2.2"]
    assert list(heat.x) == ["needle<br>64", "needle<br>256", "latest<br>64", "latest<br>256"]
    assert list(heat.z[2]) == pytest.approx([0.805, 0.605, 0.805, 0.605])
    assert list(heat.z[3]) == pytest.approx([0.105] * 4)
    half = 1.96 * math.sqrt(4 * 0.02**2) / 4
    assert heat.customdata[0][0].tolist() == pytest.approx([half, 0.05])


def test_the_haystack_is_shown_to_the_head_that_finds_the_needle(attention: pd.DataFrame) -> None:
    figure = attention_along_the_haystack(attention, **LABELS)
    panels = [panel.text for panel in figure.layout.annotations][:4]
    assert panels == ["rope, length 64", "rope, length 256", "none, length 64", "none, length 256"]
    near, far = figure.data[0], figure.data[1]
    assert list(near.y) == ["0.1", "0.9"]
    assert near.x[-1] == "?"
    assert near.z[0][1] == near.z[1][9] == pytest.approx(0.805)
    assert far.z[0][1] == pytest.approx(0.605)


def test_the_loss_has_an_interval_in_every_octave_and_guessing_is_marked() -> None:
    rows = [
        DistanceRow(task=task, length=64, mode=mode, seed=seed, distance=d, loss=d / 10, stderr=0.5, n=9)
        for task, mode, seed, d in itertools.product(("far", "overwrite"), ("rope", "none"), (0, 1), (4, 8))
    ]
    table = distance_table(rows)
    figure = loss_against_distance(table, n_active=8, **LABELS)
    pooled = pooled_losses(table)
    assert [trace.name for trace in figure.data] == ["rope", "none"] * 2
    expected = pooled[(pooled["task"] == "far") & (pooled["mode"] == "rope")]
    line = figure.data[0]
    assert list(line.x) == pytest.approx([4 * math.sqrt(2), 8 * math.sqrt(2)])
    assert list(line.y + line.error_y.array) == pytest.approx(expected["high"].tolist())
    low = expected["low"].clip(lower=0)
    assert list(line.y - line.error_y.arrayminus) == pytest.approx(low.tolist(), abs=1e-12)
    assert [shape.y0 for shape in figure.layout.shapes] == [math.log(8)]


@pytest.fixture(scope="module")
def positions() -> pd.DataFrame:
    numbers = [
        ("return", "rope", 1, 0.1),
        ("return", "rope", 4095, 0.1),
        ("return", "pi, phi", 113, 0.0),
        *(("rank", "rope", 16, 11), ("singular_value", "rope", 1, 1.0), ("singular_value", "rope", 2, 1e-12)),
        *(("rank", "pi, phi", 64, 2), ("singular_value", "pi, phi", 1, 1.0)),
        *(("discrepancy", "pi", 64, 0.125), ("discrepancy", "pi", 256, 0.0625)),
        *(("phase_error", "bfloat16", 256, 0.5), ("phase_error", "fixed_point", 256, 0.0)),
    ]
    names = ("measure", "of", "at", "value")
    return position_table([PositionRow(**dict(zip(names, number, strict=True))) for number in numbers])


@pytest.fixture(scope="module")
def drawn(positions: pd.DataFrame) -> dict[str, go.Figure]:
    return position_figures(positions, modes=("none", "rope", "pi", "phi"), **LABELS)


def test_a_code_has_the_colour_of_its_mode_and_113_and_355_are_marked(drawn: dict[str, go.Figure]) -> None:
    styles, figure = mode_styles(("none", "rope", "pi", "phi")), drawn["position_returns"]
    assert [trace.line.color for trace in figure.data] == [styles["rope"]["color"], styles["pi"]["color"]]
    assert [shape.x0 for shape in figure.layout.shapes] == [113, 355]
    marks = {mark.text: mark.x for mark in figure.layout.annotations}
    assert marks == {"113": math.log10(113), "355": math.log10(355)}
    assert figure.data[1].y[0] > 0


def test_the_rank_stands_in_the_legend_and_what_does_not_count_is_not_drawn(
    drawn: dict[str, go.Figure],
) -> None:
    rope, spiral = drawn["position_spectrum"].data
    assert rope.name == "rope: rank 11 of 16"
    assert list(rope.y) == [1.0]
    assert spiral.name == "pi, phi: rank 2 of 64"


def test_every_arithmetic_has_a_line_and_half_a_turn_is_marked(drawn: dict[str, go.Figure]) -> None:
    figure = drawn["phase_errors"]
    assert [trace.name for trace in figure.data] == ["bfloat16", "fixed point"]
    assert figure.data[1].y[0] > 0
    assert figure.layout.shapes[0].y0 == 0.5


def test_the_discrepancy_is_a_table_of_constants_by_number_of_phases(positions: pd.DataFrame) -> None:
    table = discrepancy_table(positions)
    assert table is not None
    assert [column.name for column in table.columns] == ["constant", "64", "256"]
    assert [str(cell) for cell in table.rows[0]] == ["pi", "0.12500", "0.06250"]


def test_nothing_is_drawn_of_what_was_not_measured(positions: pd.DataFrame) -> None:
    codes = positions[positions["measure"].isin(["return", "rank", "singular_value"])]
    assert set(position_figures(codes, modes=("rope", "pi"), **LABELS)) == {
        "position_returns",
        "position_spectrum",
    }
    assert position_figures(positions[:0], modes=("rope",), **LABELS) == {}
    assert discrepancy_table(codes) is None


def test_every_figure_says_how_it_is_read_and_where_it_comes_from(
    attention: pd.DataFrame, drawn: dict[str, go.Figure]
) -> None:
    for figure in (*drawn.values(), attention_at_the_needle(attention, **LABELS)):
        assert figure.layout.meta["provenance"] == "commit abc"
        assert figure.layout.meta["caption"]
        assert figure.layout.title.text.startswith("demo: ")
