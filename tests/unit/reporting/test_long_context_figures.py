"""Long-context figures show the pooled rows, the chance of guessing, and where training ended."""

import itertools

import pandas as pd
import plotly.graph_objects as go
import pytest

from finscale.longcontext.rows import RetrievalRow, pool, rows_table
from finscale.reporting.long_context import accuracy_against_length, accuracy_by_depth


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    made = []
    places = itertools.product(("needle", "latest"), (256, 512), (0.1, 0.9), ("rope", "none"), (0, 1))
    for i, (task, length, depth, mode, seed) in enumerate(places):
        place = {"task": task, "length": length, "depth": depth, "mode": mode, "seed": seed}
        made.append(RetrievalRow(**place, acc=(i % 11) / 10, low=0, high=1, n=10, runtime_s=0.1))
    return rows_table(made)


@pytest.fixture(scope="module")
def lines(rows: pd.DataFrame) -> go.Figure:
    facts = {"n_active": 8, "n_overwrites": 4, "longest_trained": 256}
    return accuracy_against_length(rows, title="demo", **facts, provenance="commit abc")


def test_each_panel_has_one_pooled_line_per_encoding_with_its_interval(
    rows: pd.DataFrame, lines: go.Figure
) -> None:
    drawn = [trace for trace in lines.data if trace.error_y.array is not None]
    panels = [(task, mode) for task in ("needle", "latest") for mode in ("rope", "none")]
    assert len(drawn) == len(panels)
    pooled = pool(rows, ["task", "mode", "length"])
    for trace, (task, mode) in zip(drawn, panels, strict=True):
        expected = pooled[(pooled["task"] == task) & (pooled["mode"] == mode)]
        assert trace.name == mode
        assert list(trace.x) == [256, 512]
        assert list(trace.y) == expected["acc"].tolist()
        assert list(trace.y + trace.error_y.array) == pytest.approx(expected["high"].tolist())
        assert list(trace.y - trace.error_y.arrayminus) == pytest.approx(expected["low"].tolist())


def test_every_seed_is_a_point_of_its_own(lines: go.Figure) -> None:
    points = [trace for trace in lines.data if trace.mode == "markers"]
    assert len(points) == 4
    assert all(sorted(trace.text) == ["seed 0"] * 2 + ["seed 1"] * 2 for trace in points)


def test_chance_and_the_longest_training_sequence_are_marked(lines: go.Figure) -> None:
    level = {(shape.xref, shape.y0) for shape in lines.layout.shapes if shape.y0 == shape.y1}
    assert level == {("x domain", 1 / 8), ("x2 domain", 1 / 4)}
    assert [shape.x0 for shape in lines.layout.shapes if shape.x0 == shape.x1] == [256, 256]


def test_the_heat_maps_hold_accuracy_by_depth_and_length(rows: pd.DataFrame) -> None:
    figure = accuracy_by_depth(rows, title="demo", provenance="commit abc")
    assert len(figure.data) == 4
    first = rows[(rows["task"] == "needle") & (rows["mode"] == "rope")]
    for row, depth in enumerate(figure.data[0].y):
        for column, length in enumerate(figure.data[0].x):
            cell = first[(first["depth"] == float(depth)) & (first["length"] == int(length))]
            assert figure.data[0].z[row][column] == pytest.approx(cell["acc"].mean())


def test_every_figure_carries_caption_and_provenance(rows: pd.DataFrame, lines: go.Figure) -> None:
    for figure in (lines, accuracy_by_depth(rows, title="demo", provenance="commit abc")):
        assert figure.layout.meta["provenance"] == "commit abc"
        assert "commit abc" in figure.layout.annotations[-1].text
