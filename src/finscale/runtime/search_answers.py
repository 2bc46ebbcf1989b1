"""What a search would be, what a sweep would cost, whether a study is whole: as a person reads it."""

from collections.abc import Iterator

from rich import get_console
from rich.table import Table

from finscale.core.budgets import Cell
from finscale.runtime.sweep_cost import SweepCost
from finscale.search.forecast import Span
from finscale.search.survey import Survey
from finscale.search.verification import Verification

__all__ = ["print_survey", "print_verification"]

_MIB = 2**20
_UNITS = ((3600, "h"), (60, "min"), (1, "s"))


def print_survey(survey: Survey, cell: Cell) -> None:
    """Print sizes, memory and cost of a search that was not run, and why candidates were refused."""
    _print_table(f"Search of {cell.id}, not run", _survey_lines(survey))
    console = get_console()
    for reason in survey.refused:
        console.print(f"{reason.n:,} must {reason.rule}, for instance", highlight=False, markup=False)
        for line in reason.first:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def print_verification(found: Verification, cell: Cell) -> None:
    """Print how many trials a study has, by state and by kind, and how many of its extremes."""
    _print_table(f"Study of {cell.id}", _study_lines(found))


def print_plan(cost: SweepCost) -> None:
    """Print a row per cell, the totals, and what they rest on."""
    heads = ("cell", "grid", "trials left", "seeds left", "search", "finals", "memory", "speed from")
    table = Table(*heads, title="What the sweep would cost", title_justify="left")
    for forecast in cost.forecasts:
        table.add_row(
            forecast.cell,
            f"{forecast.n_grid:,}",
            f"{forecast.n_left} of {forecast.n_trials}",
            str(forecast.n_trainings),
            _span(cost.search(forecast)),
            _span(cost.final(forecast)),
            f"{_memory(forecast.trial_bytes)} / {_memory(forecast.final_bytes)}",
            f"{forecast.source}; {forecast.epochs:.3g} epoch{'s' * (forecast.epochs != 1)}",
        )
    console = get_console()
    console.print(table)
    for line in _plan_lines(cost):
        console.print(line, highlight=False)


def _plan_lines(cost: SweepCost) -> Iterator[str]:
    forecasts, precision = cost.forecasts, cost.execution.precision
    n_trials, n_trainings = (sum(getattr(f, name) for f in forecasts) for name in ("n_left", "n_trainings"))
    together = f"{cost.at_once} cell{'s' * (cost.at_once > 1)} x {cost.n_places} = {cost.n_attempts} at once"
    yield f"In all {n_trials:,} trials and {n_trainings:,} final trainings, {together}: {_span(cost.total)}"
    if cost.n_gpus:
        gpu_hours = cost.total * cost.n_gpus
        yield f"{cost.n_gpus:g} GPU{'s' * (cost.n_gpus > 1)}: {_span(gpu_hours)} of GPU time"
    attempt = f"Memory of one attempt on {cost.device} in {precision}: largest trial / final training"
    yield f"{attempt}. {_peak(cost)}"
    yield from cost.notes()


def _peak(cost: SweepCost) -> str:
    """What attempts that share a device take of it together, if they were the largest."""
    largest = max(forecast.trial_bytes for forecast in cost.forecasts)
    if cost.n_sharing == 1:
        return "Attempts have a device each."
    return f"{cost.n_sharing} share a device: {_memory(largest * cost.n_sharing)} at most."


def _span(span: Span) -> str:
    """The expected time and its range; all in one unit, that of the expected."""
    if not span.most:
        return "none"
    size, unit = next((s, u) for s, u in _UNITS if span.expected >= s or s == 1)
    least, expected, most = (f"{seconds / size:.3g}" for seconds in (span.least, span.expected, span.most))
    return f"{expected} {unit} ({least} to {most})"


def _print_table(title: str, lines: Iterator[tuple[str, str]]) -> None:
    table = Table("what", "found", title=title, title_justify="left")
    for line in lines:
        table.add_row(*line)
    get_console().print(table)


def _survey_lines(survey: Survey) -> Iterator[tuple[str, str]]:
    n_refused = sum(reason.n for reason in survey.refused)
    yield "architectures of the grid", f"{survey.n_grid:,}"
    yield "with every option", f"{survey.n_product:,}"
    yield "duplicates, removed", f"{survey.n_duplicates:,}"
    yield "refused", f"{n_refused:,}"
    yield "candidates", f"{survey.n_candidates:,}"
    yield "combinations with training", _combinations(survey)
    yield "trials", f"{survey.n_trials:,}, of which {survey.n_finished:,} are finished"
    yield "extremes", ", ".join(corner.name for corner in survey.corners if corner.exists) or "none"
    least, median, most = map(_memory, survey.memory_bytes)
    yield f"memory of {survey.memory_windows} windows, fp32", f"{least} to {most}, median {median}"
    epochs = f"{survey.typical_epochs} epoch{'s' * (survey.typical_epochs > 1)}"
    yield "cost of a trial", f"{survey.flops_per_trial:.2e} operations in {epochs}"
    yield "cost of what is left", f"{survey.flops_left:.2e} operations, without early stopping"
    if survey.hours_left is not None:
        yield "time left at the speed so far", f"{survey.hours_left:.1f} hours"


def _memory(n_bytes: float) -> str:
    return f"{n_bytes / _MIB:,.0f} MiB" if n_bytes < 1024 * _MIB else f"{n_bytes / _MIB / 1024:,.1f} GiB"


def _combinations(survey: Survey) -> str:
    if survey.n_combinations is not None:
        return f"{survey.n_combinations:,}"
    return f"without end: {', '.join(survey.continuous)}"


def _study_lines(found: Verification) -> Iterator[tuple[str, str]]:
    for state, count in sorted(found.states.items()):
        yield state.lower(), f"{count:,}"
    for kind, count in sorted(found.kinds.items()):
        yield f"with a result, {kind}", f"{count:,}"
    yield "extremes", f"{found.n_extremes_tried} of {found.n_extremes}"
