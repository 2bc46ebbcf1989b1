"""Every cell of the experiment matrix: one Kedro session and one MLflow run per cell, resumable.

A cell whose work is finished costs a second (its search and seeds are found complete); a cell that fails
is reported and the rest goes on; the verdict is drawn once, over whatever cells exist. Several cells at once
are processes beside each other, and leave the records that they leave one after another.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence

from rich import get_console
from rich.table import Table

from finscale.core.errors import Interrupted
from finscale.runtime.cell_processes import CellWork, run_side_by_side
from finscale.runtime.cell_runs import CellOutcome, run_cell
from finscale.runtime.matrix import Matrix
from finscale.runtime.progress import track
from finscale.runtime.stopping import STOP

__all__ = ["run_sweep"]

_Ended = Generator[tuple[CellWork, CellOutcome]]


def run_sweep(matrix: Matrix) -> bool:
    """Run every cell, draw the verdict, print the table. Return whether any cell failed.

    Raises
    ------
    Interrupted
        When a signal or a STOP file ended the sweep; finished cells stay finished.
    """
    outcomes = _run_cells(matrix) if matrix.per_cell else []
    is_cut = bool(matrix.per_cell) and len(outcomes) < len(matrix.cells)
    only_asked = any(outcome.status == "answered" for outcome in outcomes)
    if matrix.once and not only_asked and not STOP.requested():
        outcomes.append(_analyse(matrix))
    _print_summary(outcomes)
    STOP.raise_if_requested("Sweep stopped; finished cells and trials are kept.")
    if is_cut:
        raise Interrupted(f"Sweep ended by {STOP.stop_file}; delete the file to go on.", 0)
    return any(outcome.status == "failed" for outcome in outcomes)


def _run_cells(matrix: Matrix) -> list[CellOutcome]:
    """Run one cell after another, or several at once; after a stop no other begins."""
    outcomes: list[CellOutcome] = []

    def may_begin() -> bool:
        is_stopped = any(outcome.status == "stopped" for outcome in outcomes) or STOP.requested()
        return not is_stopped and not (outcomes and _stop_file())

    works = [
        CellWork(cell, matrix.per_cell, matrix.env, matrix.cell_params, matrix.console(cell))
        for cell in matrix.cells
    ]
    is_alone = matrix.at_once == 1
    ended = _one_by_one(matrix, works, may_begin) if is_alone else _side_by_side(matrix, works, may_begin)
    with track("Cells", len(works)) as tracker, contextlib.closing(ended):
        for work, outcome in ended:
            outcomes.append(outcome)
            tracker.advance(f"{outcome.cell} {outcome.status}", log=is_alone)
            if not is_alone:
                _say(f"{outcome.cell} {outcome.status} after {outcome.seconds:.0f} s: {work.console}")
    return outcomes


def _one_by_one(matrix: Matrix, works: Sequence[CellWork], may_begin: Callable[[], bool]) -> _Ended:
    """Run cells in this process."""
    for work in works:
        if not may_begin():
            return
        yield work, run_cell(work.cell, work.pipelines, work.env, matrix.params)


def _side_by_side(matrix: Matrix, works: Sequence[CellWork], may_begin: Callable[[], bool]) -> _Ended:
    return run_side_by_side(
        works,
        at_once=matrix.at_once,
        may_begin=may_begin,
        must_stop=STOP.requested,
        on_begin=lambda work: _say(f"{work.cell.id} began"),
    )


def _say(line: str) -> None:
    get_console().print(line, highlight=False, soft_wrap=True)


def _analyse(matrix: Matrix) -> CellOutcome:
    outcome = run_cell(matrix.cells[0], matrix.once, matrix.env, matrix.params)
    return CellOutcome("verdict", outcome.status, outcome.seconds, outcome.message)


def _stop_file() -> bool:
    return STOP.stop_file is not None and STOP.stop_file.exists()


def _print_summary(outcomes: Sequence[CellOutcome]) -> None:
    table = Table("cell", "status", "time", "note")
    colour = {"done": "green", "answered": "green", "failed": "red", "stopped": "yellow"}
    for outcome in outcomes:
        status = f"[{colour[outcome.status]}]{outcome.status}"
        table.add_row(outcome.cell, status, f"{outcome.seconds:.0f} s", outcome.message)
    get_console().print(table)
