"""Long-context figures show the pooled rows, the chance of guessing, and where training ended."""

import itertools

import pandas as pd
import plotly.graph_objects as go
import pytest

from finscale.core.errors import Fault
from finscale.longcontext.gates import Gate
from finscale.longcontext.rows import RetrievalRow, accuracy, pool, rows_table
from finscale.longcontext.verdict import Verdict
from finscale.reporting.long_context import (
    accuracy_against_length,
    accuracy_by_depth,
    accuracy_by_task,
    mode_styles,
)
from finscale.reporting.long_context_costs import (
    ablation_grid,
    cost_against_length,
    streaming_against_length,
)
from finscale.reporting.long_context_report import render_long_context
from finscale.reporting.long_context_results import LongContextResults
from finscale.reporting.long_context_tables import accuracy_table

LABELS = {"title": "demo", "provenance": "commit abc"}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    made = []
    places = itertools.product(("needle", "latest"), (256, 512), (0.1, 0.9), ("rope", "none"), (0, 1))
    for i, (task, length, depth, mode, seed) in enumerate(places):
        place = {"task": task, "length": length, "depth": depth, "mode": mode, "seed": seed}
        scores = [1.0] * (i % 11) + [0.0] * (10 - i % 11)
        made.append(RetrievalRow(**place, **accuracy(scores), runtime_s=0.5))
    return rows_table(made)


@pytest.fixture(scope="module")
def lines(rows: pd.DataFrame) -> go.Figure:
    chances = {"needle": 1 / 8, "latest": 1 / 4}
    return accuracy_against_length(rows, chances=chances, longest_trained=256, **LABELS)


def test_each_panel_has_one_pooled_line_per_mode_with_its_interval(
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
    figure = accuracy_by_depth(rows, **LABELS)
    assert len(figure.data) == 4
    first = rows[(rows["task"] == "needle") & (rows["mode"] == "rope")]
    for row, depth in enumerate(figure.data[0].y):
        for column, length in enumerate(figure.data[0].x):
            cell = first[(first["depth"] == float(depth)) & (first["length"] == int(length))]
            assert figure.data[0].z[row][column] == pytest.approx(cell["acc"].mean())


def test_a_radar_stands_at_the_longest_length_of_all_tasks(rows: pd.DataFrame) -> None:
    short = rows[~((rows["task"] == "latest") & (rows["length"] == 512))]
    figure = accuracy_by_task(short, **LABELS)
    at_256 = pool(rows[rows["length"] == 256], ["task", "mode"])
    for trace in figure.data:
        own = at_256[at_256["mode"] == trace.name].set_index("task")["acc"]
        assert list(trace.r) == [own["needle"], own["latest"], own["needle"]]


def test_speed_is_symbols_over_wall_time(rows: pd.DataFrame) -> None:
    figure = cost_against_length(rows, **LABELS)
    assert list(figure.data[0].y) == [256 * 10 / 0.5, 512 * 10 / 0.5]


def test_an_ablation_grid_has_a_row_per_value(rows: pd.DataFrame) -> None:
    figure = ablation_grid(rows, modes=("none", "rope"), setting="positions", **LABELS)
    pooled = pool(rows, ["mode", "task", "length"]).set_index(["mode", "task", "length"])["acc"]
    assert list(figure.data[0].y) == ["none", "rope"]
    assert list(figure.data[0].x) == ["needle 256", "needle 512", "latest 256", "latest 512"]
    assert figure.data[0].z[1][2] == pytest.approx(pooled["rope", "latest", 256])


def test_streams_are_drawn_in_mebibytes() -> None:
    system = pd.DataFrame(
        {"mode": "w", "device": "cpu", "length": [1, 2], "state_bytes": 2**20, "rss_bytes": 2**21}
    ).assign(peak_bytes=0, tokens_per_cpu_s=9.0)
    figure = streaming_against_length(system, **LABELS)
    assert [list(trace.y) for trace in figure.data] == [[1.0, 1.0], [2.0, 2.0], [9.0, 9.0]]


def test_more_modes_than_styles_are_refused_and_styles_differ() -> None:
    styles = mode_styles([str(i) for i in range(21)])
    assert len({tuple(style.values()) for style in styles.values()}) == 21
    with pytest.raises(Fault, match=r"modes must be at most 21 in one figure, got 22"):
        mode_styles([str(i) for i in range(22)])


def test_the_page_says_the_verdict_and_shows_every_table_figure_and_gate(
    rows: pd.DataFrame, lines: go.Figure
) -> None:
    gate = Gate(name="memory_growth", mode="rope", outcome="not_measurable", reason="it was <not> streamed")
    verdict = Verdict(experiment_name="demo", gates=(gate,), sentences=("Nothing <yet>.",))
    empty = pd.DataFrame({"measure": []})
    tables = dict.fromkeys(("system", "attention", "losses", "positions"), empty)
    results = LongContextResults(verdict, rows, **tables, note="Read <this>.")
    page = render_long_context(results, {"retrieval": lines}, provenance="commit abc")
    assert "<p>Nothing &lt;yet&gt;.</p>" in page
    assert "it was &lt;not&gt; streamed" in page
    assert 'id="retrieval"' in page
    assert "Read &lt;this&gt;." in page
    assert accuracy_table(rows, "needle").to_html() in page
    assert accuracy_table(rows, "latest").to_html() in page


def test_every_figure_carries_caption_and_provenance(rows: pd.DataFrame, lines: go.Figure) -> None:
    for figure in (lines, accuracy_by_depth(rows, **LABELS), accuracy_by_task(rows, **LABELS)):
        assert figure.layout.meta["provenance"] == "commit abc"
        assert figure.layout.meta["caption"]
