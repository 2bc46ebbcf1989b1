import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from finscale.reporting.intervals import cell_intervals
from finscale.reporting.study import CellKey, ReportInput
from finscale.reporting.study_tables import (
    baselines_table,
    best_of_m,
    cells_table,
    checklist_table,
    excess_table,
    scores_table,
    study_tables,
)
from finscale.reporting.tables import Cell, Column, Table, number, signed

Make = Callable[..., ReportInput]
TABLE = Table(
    title="A <b>",
    columns=(Column(name="cell", align="left"), Column(name="loss")),
    rows=(("20K_h1", number(-0.5, 1)), ("a|b", ""), ("2020-01-02", "1e-05")),
    note="why & how",
)


def shown(row: Sequence[Cell]) -> list[str]:
    return [str(cell) for cell in row]


def test_markdown_has_a_rule_and_escapes_its_separators() -> None:
    lines = TABLE.to_markdown().splitlines()
    assert lines[2:6] == ["| cell | loss |", "| --- | ---: |", "| 20K_h1 | -0.5 |", "| a\\|b | - |"]
    assert lines[-1] == "why & how"


def test_html_escapes_and_typesets() -> None:
    text = TABLE.to_html()
    assert "A &lt;b&gt;" in text
    assert "why &amp; how" in text
    assert re.search(r'<td class="right" [^>]*>\N{MINUS SIGN}0.5</td>', text)
    assert re.search(r'<td class="right" [^>]*>\N{EN DASH}</td>', text)
    assert "2020-01-02" in text
    assert "1e-05" in text


def test_a_row_of_the_wrong_length_is_not_drawn() -> None:
    with pytest.raises(ValueError, match="zip"):
        TABLE.model_copy(update={"rows": ((number(1.0),),)}).to_html()


def test_missing_numbers_are_empty() -> None:
    assert shown([number(None), number(float("nan")), signed(float("nan"))]) == [""] * 3
    assert shown([number(0.12345, 2), signed(0.5, 1), signed(-0.5, 1)]) == ["0.12", "+0.5", "-0.5"]


def test_every_row_has_every_column(make_study: Make) -> None:
    study = make_study(planned=("2M_h1",))
    for table in study_tables(study):
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_the_excess_table_shows_means_and_intervals_of_the_test_period(make_study: Make) -> None:
    study = make_study()
    table = excess_table(study)
    interval = cell_intervals(study, split="test")[CellKey("200K", 5)]
    row = next(row for row in map(shown, table.rows) if row[0] == "200K_h5")
    cells = study.cells.query("budget == '200K' and horizon == 5 and split == 'test'")
    assert row[2] == str(signed(cells["excess_loss"].mean()))
    assert row[3] == f"{interval.low:+.4f} to {interval.high:+.4f}"
    assert row[4] == "garch"
    assert shown([row[0] for row in table.rows])[:3] == ["20K_h1", "20K_h5", "60K_h1"]


def test_failed_runs_are_flagged_and_not_averaged(make_study: Make) -> None:
    study = make_study()
    cells = study.cells.copy()
    hit = (cells["budget"] == "20K") & (cells["horizon"] == 1) & (cells["seed"] == 2)
    cells.loc[hit, "outcome"] = "diverged"
    cells.loc[hit, "loss"] = 99.0
    broken = replace(study, cells=cells)
    assert str(cells_table(broken).rows[0][-1]) == "diverged"
    assert str(cells_table(study).rows[0][-1]) == ""
    kept = study.cells.query("budget == '20K' and horizon == 1 and seed < 2 and split == 'test'")[
        "loss"
    ].mean()
    assert scores_table(broken).rows[0][2] == number(kept)


def test_the_cells_table_shows_size_shape_and_effort(make_study: Make) -> None:
    row = shown(cells_table(make_study()).rows[-1])
    assert row == ["600K_h5", "582K", "128", "4", "8", "256", "3", "22", "12", ""]


def test_equal_effort_uses_one_m(make_study: Make) -> None:
    study = make_study()
    short = study.trials.query("not (budget == '600K' and horizon == 1 and kind == 'random' and number > 9)")
    table = best_of_m(replace(study, trials=short))
    rows = [shown(row) for row in table.rows]
    assert {row[2] for row in rows} == {"6"}
    assert [row[-1] for row in rows if row[0] == "600K_h1"] == ["fewer than 10"]
    assert [row[0] for row in rows][:2] == ["20K_h1", "20K_h5"]


def test_baselines_are_shown_on_both_splits(make_study: Make) -> None:
    study = make_study()
    table = baselines_table(study)
    row = next(row for row in map(shown, table.rows) if row[:2] == ["5", "realised volatility"])
    chosen = study.baselines.query("horizon == 5 and baseline == 'realised_volatility' and split == 'test'")
    assert row[5:7] == shown([number(chosen["loss"].iloc[0]), signed(chosen["excess_loss"].iloc[0])])
    assert len(table.rows) == 6


def test_the_checklist_answers_every_item(make_study: Make) -> None:
    items = dict(map(shown, checklist_table(make_study(planned=("2M_h1",))).rows))
    assert list(items) == [
        "form tested",
        "units",
        "model",
        "which N",
        "D",
        "runs per cell",
        "checkpoint",
        "objective",
        "delta",
        "optimiser",
        "starts",
        "unit of inference",
        "bootstrap unit",
        "dropped points",
        "deviations",
    ]
    assert all(items.values())
    assert re.search(r"mean length \d+ at horizon 1, 1\d at horizon 5", items["bootstrap unit"])
    assert "2M_h1" in items["dropped points"]
