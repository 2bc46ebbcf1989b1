"""Budgets (target parameter counts), horizons and the cells they span."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from finscale.core.config import Record
from finscale.core.errors import Fault, FinscaleError, raise_faults, suggest

__all__ = ["MIN_BUDGET", "Cell", "cell_id", "cells_of", "format_budget", "format_n"]
__all__ += ["parse_budget", "parse_horizon"]

MIN_BUDGET = 4_000
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
_BUDGET = re.compile(r"(\d+(?:\.\d+)?(?:e\+?\d+)?)\s*([KMB]?)", re.IGNORECASE)
_REMEDY = "write it like 20K, 1.5M, 200M or 2B"


def parse_budget(budget: str | int | float) -> int:
    """Return a budget as a whole number of parameters.

    Raises
    ------
    Fault
        When it is not a number with K, M or B, or lies under the smallest ladder step (about 5K).

    Examples
    --------
    >>> parse_budget("20M"), parse_budget("1.5M"), parse_budget(2e9)
    (20000000, 1500000, 2000000000)
    """
    match = _BUDGET.fullmatch(str(budget).strip())
    if isinstance(budget, bool) or match is None:
        raise Fault("budget", "be a parameter count with K, M or B", budget, _REMEDY)
    count = float(match[1]) * _UNITS[match[2].upper()]
    if not math.isfinite(count) or not MIN_BUDGET <= count <= 10**13:
        raise Fault("budget", "be at least about 5K and at most 10000B", budget, _REMEDY)
    return round(count)


def format_budget(n_params: int) -> str:
    """Write a parameter count in canonical form (``2000000 -> 2M``, ``1500000 -> 1.5M``)."""
    for unit in ("B", "M", "K"):
        if n_params >= _UNITS[unit]:
            return f"{_trim(n_params, _UNITS[unit])}{unit}"
    return str(n_params)


def format_n(n_params: float) -> str:
    """Write a parameter count to three digits (``19_912_345 -> 19.9M``)."""
    count = round(n_params)
    return format_budget(round(count, min(3 - len(str(count)), 0)))


def _trim(count: int, unit: int) -> str:
    whole, rest = divmod(count, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def parse_horizon(horizon: str | int | float) -> int:
    """Return a horizon as a positive whole number of bars (``3.0`` is 3)."""
    try:
        number = float(horizon)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(horizon, bool) or not number.is_integer() or not 1 <= number <= 10_000:
        raise Fault("horizon", "be a whole number of bars from 1 to 10000", horizon, "try horizon=1")
    return int(number)


class Cell(Record):
    """One (budget, horizon) of the experiment matrix."""

    n_budget: int
    horizon: int

    @classmethod
    def parse(cls, budget: Any, horizon: Any) -> "Cell":
        """Validate and normalise both coordinates."""
        return cls(n_budget=parse_budget(budget), horizon=parse_horizon(horizon))

    @classmethod
    def from_id(cls, text: str) -> "Cell":
        """Read ``20M_h3``."""
        budget, found, horizon = text.partition("_h")
        if not found:
            raise Fault("cell", "look like 20M_h3", text, "join budget and horizon with _h")
        return cls.parse(budget, horizon)

    @property
    def budget(self) -> str:
        """The canonical budget, e.g. ``20M``."""
        return format_budget(self.n_budget)

    @property
    def id(self) -> str:
        """The canonical cell id, e.g. ``20M_h3``."""
        return f"{self.budget}_h{self.horizon}"


def cell_id(budget: Any, horizon: Any) -> str:
    """Validate and join: ``cell_id("2000K", 3.0) == "2M_h3"``; paths such as ``../x`` are refused.

    Examples
    --------
    >>> cell_id("2000K", 3.0)
    '2M_h3'
    """
    return Cell.parse(budget, horizon).id


def cells_of(budgets: Sequence[Any], horizons: Sequence[Any], *, from_cell: str | None = None) -> list[Cell]:
    """Return the cells, smallest budget first; ``from_cell`` leaves out those before it.

    Raises
    ------
    FinscaleError
        With every malformed budget and horizon, or when ``from_cell`` is not one of the cells.
    """
    faults: list[Exception] = []
    sizes = _parsed(parse_budget, budgets, faults)
    steps = _parsed(parse_horizon, horizons, faults)
    raise_faults(faults)
    cells = [Cell(n_budget=size, horizon=step) for size in sorted(set(sizes)) for step in sorted(set(steps))]
    if from_cell is None:
        return cells
    names = [cell.id for cell in cells]
    wanted = Cell.from_id(from_cell).id
    if wanted not in names:
        raise Fault("--from-cell", "be a cell of this sweep", from_cell, suggest(wanted, names))
    return cells[names.index(wanted) :]


def _parsed(parse: Callable[[Any], int], values: Sequence[Any], faults: list[Exception]) -> list[int]:
    found = []
    for value in values:
        try:
            found.append(parse(value))
        except FinscaleError as fault:
            faults.append(fault)
    return found
