"""One cell of a sweep: one Kedro session and one MLflow run, and how it ended."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kedro.framework.session import KedroSession

from finscale.core.budgets import Cell
from finscale.core.errors import Answered, Interrupted, user_fault
from finscale.runtime.resolvers import project_root
from finscale.runtime.runner import ContentRunner

__all__ = ["CellOutcome", "of_cell", "run_cell"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellOutcome:
    """How one cell of a sweep ended."""

    cell: str
    status: Literal["done", "answered", "failed", "stopped"]
    seconds: float
    message: str = ""


def of_cell(cell: Cell, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a cell's session: those of the whole sweep, and where it stands."""
    return {**params, "budget": cell.budget, "horizon": cell.horizon}


def run_cell(cell: Cell, names: Sequence[str], env: str | None, params: Mapping[str, Any]) -> CellOutcome:
    """Run the pipelines of one cell; what goes wrong is reported and becomes its outcome."""
    started = time.monotonic()
    try:
        with KedroSession.create(
            project_root(), env=env, runtime_params=of_cell(cell, params), save_on_close=False
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
