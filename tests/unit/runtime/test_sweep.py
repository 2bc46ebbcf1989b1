"""A sweep goes from cell to cell until it is stopped, one after another or several at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finscale.core.budgets import Cell
from finscale.core.errors import Interrupted
from finscale.runtime import sweep
from finscale.runtime.cell_runs import CellOutcome
from finscale.runtime.matrix import Matrix
from finscale.runtime.stopping import Stopper
from finscale.runtime.sweep import run_sweep


@pytest.fixture(autouse=True)
def _watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopper = Stopper()
    stopper.watch(tmp_path)
    monkeypatch.setattr(sweep, "STOP", stopper)


def matrix(tmp_path: Path, *, at_once: int = 1) -> Matrix:
    return Matrix(
        cells=tuple(Cell.parse("5K", horizon) for horizon in (1, 2, 3)),
        per_cell=("hpo",),
        once=(),
        at_once=at_once,
        env="test",
        params={"seed": 1},
        cell_params={"seed": 1, "hpo": {"n_workers": 2}},
        parameters={"paths": {"data": str(tmp_path)}, "experiment": "tiny"},
    )


def run_as(monkeypatch: pytest.MonkeyPatch, outcome_of: Any) -> list[tuple[str, Any]]:
    ran: list[tuple[str, Any]] = []

    def run_cell(cell: Cell, names: Any, env: Any, params: Any) -> CellOutcome:
        ran.append((cell.id, params))
        return CellOutcome(cell.id, outcome_of(cell), 0.0)

    def run_side_by_side(works: Any, *, at_once: int, may_begin: Any, **_: Any) -> Iterator[Any]:
        for work in works:
            if may_begin():
                yield work, run_cell(work.cell, work.pipelines, work.env, work.params)

    monkeypatch.setattr(sweep, "run_cell", run_cell)
    monkeypatch.setattr(sweep, "run_side_by_side", run_side_by_side)
    return ran


@pytest.mark.parametrize("at_once", [1, 2])
def test_every_cell_runs_and_one_that_fails_stops_no_other(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run_as(monkeypatch, lambda cell: "failed" if cell.horizon == 1 else "done")
    assert run_sweep(matrix(tmp_path, at_once=at_once))
    assert [cell for cell, _ in ran] == ["5K_h1", "5K_h2", "5K_h3"]
    # beside others a cell takes no more than its share
    assert all(("hpo" in params) == (at_once == 2) for _, params in ran)


@pytest.mark.parametrize("at_once", [1, 2])
def test_after_a_stop_file_no_other_cell_begins(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_at_the_second(cell: Cell) -> str:
        if cell.horizon == 2:
            (tmp_path / "STOP").touch()
        return "done"

    ran = run_as(monkeypatch, stop_at_the_second)
    with pytest.raises(Interrupted, match="STOP; delete the file") as ended:
        run_sweep(matrix(tmp_path, at_once=at_once))
    assert ended.value.exit_code == 0
    assert [cell for cell, _ in ran] == ["5K_h1", "5K_h2"]


@pytest.mark.parametrize("at_once", [1, 2])
def test_after_a_cell_that_was_stopped_no_other_begins(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run_as(monkeypatch, lambda cell: "stopped")
    with pytest.raises(Interrupted):
        run_sweep(matrix(tmp_path, at_once=at_once))
    assert [cell for cell, _ in ran] == ["5K_h1"]


def test_the_console_of_a_cell_lies_with_its_records(tmp_path: Path) -> None:
    found = matrix(tmp_path).console(Cell.parse("20K", 3))
    assert found == tmp_path / "07_model_output/tiny/20K_h3/console.log"
