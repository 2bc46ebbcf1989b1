"""Which columns a model reads: all categorical columns, or symbols, of its windows; a calendar. No torch."""

from typing import Any

from finscale.core.errors import Fault
from finscale.models.config import reads_calendar
from finscale.windows.spec import WindowSpec

__all__ = ["columns_fault"]


def columns_fault(model: Any, spec: WindowSpec) -> Fault | None:
    """Return what a model config would miss of these windows, or expects in vain; None where all is read."""
    return _calendar_fault(model, spec) or _categories_fault(model, spec)


def _calendar_fault(model: Any, spec: WindowSpec) -> Fault | None:
    if not reads_calendar(model):
        return None
    if spec.time_name == "position":
        remedy = "choose other positions, or another family"
        return Fault("the windows", "be of bars with dates for this model", "sequences", remedy)
    found = getattr(model, "session_bars", model.positions.session_bars)
    if found >= spec.session_bars:
        return None
    rule = f"be at least {spec.session_bars}, the bars of the windows' longest session"
    return Fault("model.session_bars", rule, found, f"set it to {spec.session_bars}")


def _categories_fault(model: Any, spec: WindowSpec) -> Fault | None:
    n_labels, n_symbols = spec.n_labels, getattr(model, "vocab_size", None)
    if spec.shows_symbols:
        rule, remedy = f"be {n_labels[0]}, the symbols of the windows", "set it on a transformer"
        return None if n_symbols == n_labels[0] else Fault("model.vocab_size", rule, n_symbols, remedy)
    if n_symbols is not None:
        return Fault("model.vocab_size", "be left out where windows show no symbols", n_symbols, "remove it")
    found = tuple(getattr(model, "categories", ()))
    if found == n_labels:
        return None
    remedy = "set it on a transformer, or hand over windows.without_categories()"
    return Fault("model.categories", f"be {n_labels}, the labels of the windows' columns", found, remedy)
