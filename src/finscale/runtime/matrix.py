"""What a sweep is asked to do, checked as a whole before any cell runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from rich import get_console
from rich.table import Table

from finscale.core.budgets import Cell, cells_of
from finscale.core.errors import Fault
from finscale.features.prepare import prepare_bars
from finscale.runtime.definition import group
from finscale.runtime.places import places_per_cell
from finscale.runtime.preflight import Check, preflight, require
from finscale.runtime.resolvers import experiment_folder, project_root
from finscale.search.config import SearchConfig

__all__ = ["Matrix", "checked_matrix"]

_PER_CELL = ("arch_grid", "hpo", "training")
_ONCE = ("scaling_analysis",)


@dataclass(frozen=True)
class Matrix:
    """The cells of a sweep, and how they run.

    Parameters
    ----------
    per_cell, once : tuple of str
        Pipelines of every cell, and those that run when all cells have ended.
    at_once : int
        Cells that run at the same time.
    env, params
        Kedro environment and runtime parameters of the sessions.
    cell_params : mapping
        The latter for a cell that runs beside others: on a cluster it takes no more than its share.
    parameters : mapping
        Resolved.
    """

    cells: tuple[Cell, ...]
    per_cell: tuple[str, ...]
    once: tuple[str, ...]
    at_once: int
    env: str | None
    params: Mapping[str, Any]
    cell_params: Mapping[str, Any]
    parameters: Mapping[str, Any]

    @property
    def hpo(self) -> SearchConfig:
        """How every cell is searched."""
        found: SearchConfig = group(self.parameters, "hpo")
        return found

    def console(self, cell: Cell) -> Path:
        """Return the file for what a cell prints while others run beside it."""
        data = Path(group(self.parameters, "paths").data)
        records = data / "07_model_output" / experiment_folder(self.parameters["experiment"])
        return records / cell.id / "console.log"


def checked_matrix(
    *,
    env: str | None,
    pipelines: Sequence[str],
    budgets: Sequence[str],
    horizons: Sequence[str],
    from_cell: str | None,
    at_once: int | None,
    params: Mapping[str, Any],
) -> Matrix:
    """Resolve what was typed, and run the pre-flight.

    Raises
    ------
    FinscaleError
        With what would stop the sweep later, or when its cells would take more than there is.
    """
    context = _context(env, params)
    settings, hpo = group(context.params, "sweep"), group(context.params, "hpo")
    cells = cells_of(budgets or settings.budgets, horizons or settings.horizons, from_cell=from_cell)
    n_at_once = _n_at_once(hpo, at_once or settings.at_once, n_cells=len(cells))
    matrix = Matrix(
        cells=tuple(cells),
        per_cell=tuple(name for name in pipelines or _PER_CELL if name not in _ONCE),
        once=tuple(name for name in pipelines or _ONCE if name in _ONCE),
        at_once=n_at_once,
        env=env,
        params=params,
        cell_params=_shared_out(params, hpo, n_at_once),
        parameters=context.params,
    )
    _check(context, cells)
    return matrix


def _context(env: str | None, params: Mapping[str, Any]) -> Any:
    with KedroSession.create(
        project_root(), env=env, runtime_params=dict(params), save_on_close=False
    ) as session:
        return session.load_context()


def _n_at_once(hpo: SearchConfig, asked: int, *, n_cells: int) -> int:
    """Cells that only answer a question print it one after another; those that learn wait for the smaller."""
    n_at_once = min(asked, n_cells)
    if n_at_once > 1 and hpo.transfer:
        rule = "be 1 where hpo.transfer is true: a cell learns from smaller ones that have ended"
        raise Fault("sweep.at_once", rule, asked, "leave out --at-once, or set hpo.transfer=false")
    return 1 if hpo.dry_run or hpo.verify else n_at_once


def _shared_out(params: Mapping[str, Any], hpo: SearchConfig, at_once: int) -> Mapping[str, Any]:
    if at_once == 1:
        return params
    n_places = places_per_cell(hpo, at_once=at_once)
    if hpo.n_slots is not None:
        return params
    return {**params, "hpo": {**params.get("hpo", {}), "n_workers": n_places}}


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


def _check_table(checks: Sequence[Check]) -> Table:
    table = Table("pre-flight", "verdict", "found")
    for check in checks:
        table.add_row(
            check.name, "[red]fail" if check.fault else "[green]pass", str(check.fault or check.found)
        )
    return table
