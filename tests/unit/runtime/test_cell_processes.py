"""Cells in processes of their own: as many as asked for, each with its console, none that outlives us."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finscale.core.budgets import Cell
from finscale.runtime import cell_processes
from finscale.runtime.cell_processes import CellWork, run_side_by_side

HERE = str(Path(__file__).parent)
TOY = (
    f"import sys; sys.path.insert(0, {HERE!r}); import toy_cells; "
    "from finscale.runtime.cell_processes import answer_parent; answer_parent(toy_cells.run)"
)
PARENT = f"""
import sys
sys.path.insert(0, {HERE!r})
from pathlib import Path
import test_cell_processes as cells
cells.cell_processes._PROGRAM = cells.TOY
list(cells.side_by_side(cells.works(Path(sys.argv[1]), 2)))
"""


def works(folder: Path, n: int, **params: Any) -> list[CellWork]:
    asked = {"folder": str(folder), **params}
    cells = [Cell.parse("5K", horizon) for horizon in range(1, n + 1)]
    return [CellWork(cell, ("hpo",), "test", asked, folder / f"{cell.id}.log") for cell in cells]


def side_by_side(asked: list[CellWork], **given: Any) -> Any:
    usual = {
        "at_once": 2,
        "may_begin": lambda: True,
        "must_stop": lambda: False,
        "on_begin": lambda work: None,
    }
    return run_side_by_side(asked, **{**usual, **given})


def pids(folder: Path) -> list[int]:
    return [int(path.read_text() or 0) for path in sorted(folder.glob("*.pid"))]


def wait_for(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it never came so far"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """A zombie has ended."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_processes, "_PROGRAM", TOY)


def test_as_many_cells_run_at_once_as_asked_for_and_never_more(tmp_path: Path) -> None:
    began: list[str] = []

    def go_together() -> bool:
        if len(pids(tmp_path)) >= 2:
            (tmp_path / "go").touch()
        return False

    asked = works(tmp_path, 4, seconds=0.3)
    ended = list(side_by_side(asked, must_stop=go_together, on_begin=lambda work: began.append(work.cell.id)))
    assert began == ["5K_h1", "5K_h2", "5K_h3", "5K_h4"]
    assert sorted(outcome.cell for _, outcome in ended) == began
    assert {outcome.status for _, outcome in ended} == {"done"}
    spans = [tuple(map(float, path.read_text().split())) for path in tmp_path.glob("*.span")]
    beside = [sum(begin < at < end for begin, end in spans) for at, _ in spans]
    assert max(beside) == 1


def test_what_a_cell_prints_is_in_its_own_file_and_nowhere_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "go").touch()
    list(side_by_side(works(tmp_path, 2)))
    assert [(tmp_path / f"5K_h{h}.log").read_text() for h in (1, 2)] == [
        "5K_h1 runs hpo\n",
        "5K_h2 runs hpo\n",
    ]
    assert capfd.readouterr() == ("", "")


def test_a_cell_that_is_killed_has_failed_by_its_signal_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    ended = list(side_by_side(works(tmp_path, 3, dies="5K_h2")))
    told = {outcome.cell: (outcome.status, outcome.message) for _, outcome in ended}
    assert told["5K_h2"] == ("failed", "its process was killed by signal 9 (SIGKILL)")
    assert told["5K_h1"] == told["5K_h3"] == ("done", "")


def test_a_stop_reaches_every_cell_that_runs_once_and_no_other_begins(tmp_path: Path) -> None:
    asked = {"now": False}

    def must_stop() -> bool:
        asked["now"] = asked["now"] or len(pids(tmp_path)) == 2
        return asked["now"]

    ended = list(
        side_by_side(works(tmp_path, 3, seconds=0.6), must_stop=must_stop, may_begin=lambda: not asked["now"])
    )
    assert [outcome.status for _, outcome in ended] == ["stopped", "stopped"]
    assert {outcome.cell for _, outcome in ended} == {"5K_h1", "5K_h2"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_the_parents_to_hear(tmp_path: Path, number: int) -> None:
    sent = []

    def send() -> bool:
        if not sent and len(pids(tmp_path)) == 2:
            sent.extend(pids(tmp_path))
            for pid in sent:
                os.kill(pid, number)
            (tmp_path / "go").touch()
        return False

    ended = list(side_by_side(works(tmp_path, 2), must_stop=send))
    assert len(sent) == 2
    assert {outcome.status for _, outcome in ended} == {"done"}


def test_whoever_leaves_early_leaves_no_cell_behind(tmp_path: Path) -> None:
    def never_again() -> bool:
        if len(pids(tmp_path)) == 2:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(works(tmp_path, 2), must_stop=never_again))
    assert [is_alive(pid) for pid in pids(tmp_path)] == [False, False]


def test_no_cell_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)])
    try:
        wait_for(lambda: len(pids(tmp_path)) == 2 and all(pids(tmp_path)))
        found = pids(tmp_path)
        assert all(map(is_alive, found))
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not any(map(is_alive, found)), 5.0)
