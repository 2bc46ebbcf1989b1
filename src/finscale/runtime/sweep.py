"""Every cell of the experiment matrix: one Kedro session and one MLflow run per cell, resumable.

A cell whose work is finished costs a second (its search and seeds are found complete); a cell that fails
is reported and the rest goes on; the verdict is drawn once, over whatever cells exist.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kedro.framework.session import KedroSession
from rich import get_console
from rich.table import Table

from finscale.core.budgets import Cell, cells_of
from finscale.core.errors import Answered, Interrupted, user_fault
from finscale.features.prepare import prepare_bars
from finscale.runtime.definition import group
from finscale.runtime.preflight import Check, preflight, require
from finscale.runtime.progress import track
from finscale.runtime.resolvers import project_root
from finscale.runtime.runner import ContentRunner
from finscale.runtime.stopping import STOP

__all__ = ["CellOutcome", "run_sweep"]

logger = logging.getLogger(__name__)
_PER_CELL = ("arch_grid", "hpo", "training")
_ONCE = ("scaling_analysis",)


@dataclass(frozen=True)
class CellOutcome:
    """How one cell of a sweep ended."""

    cell: str
    status: Literal["done", "answered", "failed", "stopped"]
    seconds: float
    message: str = ""


def run_sweep(
    *,
    env: str | None,
    pipelines: Sequence[str],
    budgets: Sequence[str],
    horizons: Sequence[str],
    from_cell: str | None,
    params: Mapping[str, Any],
) -> bool:
    """Check, run every cell, draw the verdict, print the table. Return whether any cell failed.

    Raises
    ------
    FinscaleError
        When pre-flight finds something, before any cell is run.
    Interrupted
        When a signal or a STOP file ended the sweep; finished cells stay finished.
    """
    per_cell = [name for name in pipelines if name not in _ONCE] if pipelines else list(_PER_CELL)
    once = [name for name in pipelines if name in _ONCE] if pipelines else list(_ONCE)
    context = _context(env, params)
    matrix = group(context.params, "sweep")
    cells = cells_of(budgets or matrix.budgets, horizons or matrix.horizons, from_cell=from_cell)
    _check(context, cells)
    outcomes: list[CellOutcome] = []
    with track("Cells", len(cells)) as tracker:
        for cell in cells if per_cell else []:
            outcomes.append(_run_cell(cell, per_cell, env, params))
            tracker.advance(f"{cell.id} {outcomes[-1].status}")
            if outcomes[-1].status == "stopped" or _stop_file():
                break
    stopped = len(outcomes) < len(cells) and bool(per_cell)
    only_asked = any(outcome.status == "answered" for outcome in outcomes)
    if once and not only_asked and not STOP.requested():
        outcomes.append(_analyse(cells[0], once, env, params))
    _print_summary(outcomes)
    STOP.raise_if_requested("Sweep stopped; finished cells and trials are kept.")
    if stopped:
        raise Interrupted(f"Sweep ended by {STOP.stop_file}; delete the file to go on.", 0)
    return any(outcome.status == "failed" for outcome in outcomes)


def _context(env: str | None, params: Mapping[str, Any]) -> Any:
    with KedroSession.create(
        project_root(), env=env, runtime_params=dict(params), save_on_close=False
    ) as session:
        return session.load_context()


def _check(context: Any, cells: Sequence[Cell]) -> None:
    """Pre-flight: print what was found, raise what would stop the sweep later."""
    checks = preflight(
        context.params,
        budgets=[cell.budget for cell in cells],
        load_bars=lambda: _bars(context),
        environment=context.env,
    )
    get_console().print(_check_table(checks))
    require(checks)


def _bars(context: Any) -> Any:
    data = group(context.params, "definition").data
    return prepare_bars(
        context.catalog.load("bars"), name="bars", timescale=data.timescale, start=data.start, end=data.end
    )


def _run_cell(cell: Cell, names: Sequence[str], env: str | None, params: Mapping[str, Any]) -> CellOutcome:
    started = time.monotonic()
    runtime_params = {**params, "budget": cell.budget, "horizon": cell.horizon}
    try:
        with KedroSession.create(
            project_root(), env=env, runtime_params=runtime_params, save_on_close=False
        ) as session:
            session.run(pipeline_names=list(names), runner=ContentRunner())
    except Answered as answer:
        return CellOutcome(cell.id, "answered", time.monotonic() - started, str(answer))
    except Interrupted as stop:
        return CellOutcome(cell.id, "stopped", time.monotonic() - started, str(stop))
    except Exception as error:
        fault = user_fault(error)
        if fault is None:
            logger.exception("Cell %s failed; the sweep goes on", cell.id)
        else:
            logger.error("Cell %s failed; the sweep goes on: %s", cell.id, fault)
        return CellOutcome(
            cell.id, "failed", time.monotonic() - started, (fault or str(error)).splitlines()[0]
        )
    return CellOutcome(cell.id, "done", time.monotonic() - started)


def _analyse(cell: Cell, names: Sequence[str], env: str | None, params: Mapping[str, Any]) -> CellOutcome:
    outcome = _run_cell(cell, names, env, params)
    return CellOutcome("verdict", outcome.status, outcome.seconds, outcome.message)


def _stop_file() -> bool:
    return STOP.stop_file is not None and Path(STOP.stop_file).exists()


def _check_table(checks: Sequence[Check]) -> Table:
    table = Table("pre-flight", "verdict", "found")
    for check in checks:
        table.add_row(
            check.name, "[red]fail" if check.fault else "[green]pass", str(check.fault or check.found)
        )
    return table


def _print_summary(outcomes: Sequence[CellOutcome]) -> None:
    table = Table("cell", "status", "time", "note")
    colour = {"done": "green", "answered": "green", "failed": "red", "stopped": "yellow"}
    for outcome in outcomes:
        status = f"[{colour[outcome.status]}]{outcome.status}"
        table.add_row(outcome.cell, status, f"{outcome.seconds:.0f} s", outcome.message)
    get_console().print(table)
