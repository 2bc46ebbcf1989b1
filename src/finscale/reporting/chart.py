"""The pieces every figure is made of: an empty chart in our template, the N axis, honest tick labels."""

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from finscale.reporting.template import TEMPLATE

__all__ = ["blank", "format_y_ticks", "log_n_axis", "short_n"]


def blank(title: str, *, x: str, y: str, caption: str, note: str = "", height: int = 380) -> go.Figure:
    """Return an empty figure in our template.

    Parameters
    ----------
    caption : str
        How to read it; kept in ``layout.meta["caption"]``.
    note : str
        What is particular to this one among its like; kept in ``layout.meta["note"]``.
    """
    figure = go.Figure()
    meta = {"caption": caption, "note": note}
    figure.update_layout(template=TEMPLATE, title_text=title, height=height, meta=meta)
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    return figure


def log_n_axis(figure: go.Figure, n_params: NDArray[np.float64]) -> None:
    """Make x a log axis around ``n_params`` with ticks written as 20K, 2M."""
    low, high = np.log10(n_params.min()) - 0.15, np.log10(n_params.max()) + 0.15
    steps = (1,) if high - low > 3 else (1, 3) if high - low > 1.2 else (1, 2, 3, 5, 7)
    ticks = [step * 10.0**e for e in range(int(np.floor(low)), int(np.ceil(high)) + 1) for step in steps]
    shown = [tick for tick in ticks if low <= np.log10(tick) <= high]
    labels = [short_n(tick) for tick in shown]
    figure.update_xaxes(type="log", range=[low, high], tickvals=shown, ticktext=labels, minor_ticks="")


def short_n(n_params: float) -> str:
    """Write a tick's parameter count with its unit (``3e5 -> 300K``)."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if n_params >= unit:
            return f"{n_params / unit:g}{name}"
    return f"{n_params:g}"


def format_y_ticks(figure: go.Figure) -> go.Figure:
    """Give the y axis as many decimals as tell its ticks apart, the same on each; return the figure."""
    drawn = [np.asarray(trace.y, dtype=np.float64) for trace in figure.data if trace.y is not None]
    values = np.concatenate(drawn) if drawn else np.empty(0)
    finite = values[np.isfinite(values)]
    step = np.ptp(finite) / 5 if len(finite) else 0.0
    decimals = max(0, -int(np.floor(np.log10(step)))) if step > 0 else 2
    return figure.update_yaxes(tickformat=f".{decimals}f")
