"""What further cells could show, before they are paid for: detectable drops beside hours.

K budgets; the noise is that of one budget's response about the line, or, before three budgets are there, what
the spread between seeds alone would leave.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from finscale.core.budgets import format_budget, parse_budget
from finscale.core.config import Record
from finscale.reporting.study import ReportInput
from finscale.reporting.tables import Cell, Column, Table
from finscale.scalinglaws.power import PlannedPower, plan_power

__all__ = ["PowerPlan", "PowerReport", "half_decades", "power_report", "power_table"]

Floats = NDArray[np.float64]
_SMALL = 3


class PowerPlan(Record):
    """A ladder of budgets, what it could detect and what it costs.

    Attributes
    ----------
    budgets : tuple of str
        One entry per search; a budget that stands twice is searched twice.
    power : PlannedPower
        For the response averaged over the horizons.
    hours, hours_left : float or None
        Of every cell, and of those without a finished training; None before the first finished cell.
    """

    name: str
    budgets: tuple[str, ...]
    power: PlannedPower
    hours: float | None
    hours_left: float | None


class PowerReport(Record):
    """The plans, and the noise that they rest on.

    Attributes
    ----------
    noise_from : str
        ``budgets``: scatter of the budgets about the line; ``seeds``: the spread between seeds over the root
        of the runs that are averaged, which is a lower bound; ``nothing``: one run a cell, fewer than three
        budgets.
    observed_drop : float or None
        Of the overall verdict.
    """

    noise_from: Literal["budgets", "seeds", "nothing"]
    noise_sd: float | None
    observed_drop: float | None
    unit: str
    plans: tuple[PowerPlan, ...]


def half_decades(budgets: Sequence[str], *, further: int = 0) -> tuple[str, ...]:
    """Return budgets half a decade apart from the smallest to the largest, and ``further`` steps beyond.

    Examples
    --------
    >>> half_decades(["2M", "200M"])
    ('2M', '6M', '20M', '60M', '200M')
    """
    sizes = [parse_budget(budget) for budget in budgets]
    n_steps = int(np.ceil(2 * np.log10(max(sizes) / min(sizes)) - 0.1)) + further
    return tuple(_rounded(min(sizes) * 10 ** (step / 2)) for step in range(n_steps + 1))


def _rounded(size: float) -> str:
    """Round to one digit."""
    scale = 10 ** int(np.log10(size))
    return format_budget(round(size / scale) * scale)


def power_report(study: ReportInput) -> PowerReport:
    """Weigh the planned ladder against ladders half a decade apart."""
    noise_from, noise_sd = _noise(study)
    planned = _planned(study)
    steps = half_decades(planned) if planned else ()
    ladders = {
        "the cells that are there": study.budgets,
        "every planned cell": planned,
        "half a decade apart": steps,
        f"the same, the {_SMALL} smallest searched twice": tuple(
            sorted((*steps, *steps[:_SMALL]), key=parse_budget)
        ),
        "half a decade apart, to one decade further": half_decades(planned, further=2) if planned else (),
    }
    distinct = {budgets: name for name, budgets in reversed(ladders.items()) if budgets}
    plans = [_plan(study, name, budgets, noise_sd) for budgets, name in reversed(distinct.items())]
    return PowerReport(
        noise_from=noise_from,
        noise_sd=noise_sd,
        observed_drop=study.verdict.overall.drop,
        unit=study.measure.unit,
        plans=tuple(plan for plan in plans if noise_sd and plan.power.detectable_drop is not None),
    )


def _planned(study: ReportInput) -> tuple[str, ...]:
    budgets = {cell.rpartition("_h")[0] for cell in study.planned} | set(study.budgets)
    return tuple(sorted(budgets, key=parse_budget))


def _noise(study: ReportInput) -> tuple[Literal["budgets", "seeds", "nothing"], float | None]:
    verdict = study.verdict
    if verdict.overall.noise_sd:
        return "budgets", verdict.overall.noise_sd
    if verdict.seed_sd:
        n_runs = max(verdict.n_seeds[0], 1) * max(len(study.horizons), 1)
        return "seeds", verdict.seed_sd / float(np.sqrt(n_runs))
    return "nothing", None


def _plan(study: ReportInput, name: str, budgets: tuple[str, ...], noise_sd: float | None) -> PowerPlan:
    sizes = np.array([parse_budget(budget) for budget in budgets], dtype=float)
    finished = _finished(study, budgets)
    flops = _flops(study, sizes)
    hours = _hours(study, sizes)
    power = plan_power(sizes.tolist(), flops=flops.tolist(), finished=finished, noise_sd=noise_sd or 1.0)
    left = None if hours is None else float(hours[~np.array(finished)].sum())
    total = None if hours is None else float(hours.sum())
    return PowerPlan(name=name, budgets=budgets, power=power, hours=total, hours_left=left)


def _finished(study: ReportInput, budgets: tuple[str, ...]) -> list[bool]:
    """Whether each search has been made; the second of the same budget has not."""
    present = set(study.verdict.overall.budgets)
    return [budget in present and budget not in budgets[:i] for i, budget in enumerate(budgets)]


def _hours(study: ReportInput, sizes: Floats) -> Floats | None:
    """Hours of a budget's cells: measured ones between, beyond them in proportion to the operations."""
    seconds = _by_budget(study, "seconds")
    if not len(seconds):
        return None
    known, hours = seconds[:, 0], seconds[:, 1] * len(study.horizons) / 3600
    within = np.exp(np.interp(np.log(sizes), np.log(known), np.log(hours)))
    ends = np.clip(sizes, known[0], known[-1])
    return np.asarray(within * np.maximum(_per_window(study, sizes) / _per_window(study, ends), 1.0))


def _flops(study: ReportInput, sizes: Floats) -> Floats:
    windows = _by_budget(study, "windows")
    per_cell = windows[:, 1].mean() if len(windows) else 0.0
    return np.asarray(_per_window(study, sizes) * per_cell * len(study.horizons))


def _by_budget(study: ReportInput, column: str) -> Floats:
    """Return (size, mean over the budget's cells of search and final trainings), ascending, shape (K, 2)."""
    spent = study.costs.dropna(subset=[column])
    spent = spent[spent[column] > 0]
    return spent.groupby("n_budget")[column].mean().reset_index().to_numpy(dtype=float)


def _per_window(study: ReportInput, sizes: Floats) -> Floats:
    """Operations of one window: the median of a budget's grid; away from every grid, in proportion to N."""
    grid = study.grid.dropna(subset=["flops_training"])
    if grid.empty:
        return sizes
    medians = grid.groupby(grid["budget"].map(parse_budget))["flops_training"].median().sort_index()
    known, flops = medians.index.to_numpy(dtype=float), medians.to_numpy(dtype=float)
    within = np.exp(np.interp(np.log(sizes), np.log(known), np.log(flops)))
    return np.asarray(within * sizes / np.clip(sizes, known[0], known[-1]))


_NOISE = {
    "budgets": "the scatter of the measured budgets about their line",
    "seeds": "the spread between seeds alone, because fewer than three budgets have run: cells differ by "
    "more than that, so these drops are lower bounds",
}


def power_table(report: PowerReport) -> Table | None:
    """Lay the plans out as a table; None where no noise was measured."""
    if not report.plans:
        return None
    heads = ("plan", "searches", f"detectable drop ({report.unit})", "PFLOP left", "hours left")
    return Table(
        title="What more cells could show",
        columns=tuple(Column(name=name, align="left" if name in heads[:2] else "right") for name in heads),
        rows=tuple(_row(plan) for plan in report.plans),
        note="The smallest fall in loss over the whole ladder that would be called scaling with 80 % power. "
        f"Noise: {_NOISE[report.noise_from]}. Hours on this device: those of the finished cells, and beyond "
        "the largest in proportion to the operations.",
    )


def _row(plan: PowerPlan) -> tuple[Cell, ...]:
    return (
        Cell(value=plan.name),
        Cell(value=plan.budgets, form="list"),
        Cell(value=plan.power.detectable_drop, form="loss"),
        Cell(value=plan.power.flops_left / 1e15, form="amount"),
        Cell(value=plan.hours_left, form="amount"),
    )
