"""One look for every figure: quiet axes, dark type on white, colours that survive colour blindness.

The palette is that of Okabe and Ito (2008), reordered so that neighbours differ in lightness too.
"""

from collections.abc import Sequence

import plotly.graph_objects as go

__all__ = [
    "BAND",
    "DARK",
    "FAINT",
    "GRID",
    "INK",
    "MUTED",
    "PALETTE",
    "SANS",
    "SURFACE",
    "TEMPLATE",
    "VERDICT_COLOURS",
    "budget_colours",
]

INK = "#1c2430"
MUTED = "#667080"
FAINT = "#a9b1bc"
GRID = "#eceff3"
SURFACE = "#ffffff"
BAND = "rgba(0,114,178,0.09)"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5b4b8a")
SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"
VERDICT_COLOURS = {
    "scaling": "#009e73",
    "no_detectable_scaling": "#667080",
    "inverse_scaling": "#d55e00",
    "not_enough_data": "#b07a00",
}
DARK = {
    SURFACE: "#14181f",
    INK: "#e6e9ee",
    MUTED: "#9aa4b2",
    FAINT: "#5d6776",
    GRID: "#262d38",
    BAND: "rgba(86,180,233,0.14)",
    "#0072b2": "#4ba3e3",
    "#5b4b8a": "#9d8cd6",
    "#08457e": "#2f7fc4",
    "#cc79a7": "#dd94bb",
    "#a6cee3": "#c4e2f2",
    "#56b4e9": "#b3dcf5",
    "#eef3f8": "#1d2531",
    "#08284a": "#d9ecfb",
}
"""What a colour of ours becomes on a dark ground; colours that are not here stay."""

_LADDER = ("#a6cee3", "#56a0d3", "#0072b2", "#08457e", "#5b4b8a", "#93489b", "#cc79a7")


def budget_colours(budgets: Sequence[str]) -> dict[str, str]:
    """Give each budget, in ascending order, a step of one light-to-dark ladder."""
    return {budget: _LADDER[min(i, len(_LADDER) - 1)] for i, budget in enumerate(budgets)}


def _axis() -> dict:
    return {
        "gridcolor": GRID,
        "linecolor": FAINT,
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": FAINT,
        "ticklen": 4,
        "title": {"font": {"size": 12, "color": MUTED}, "standoff": 8},
        "automargin": True,
    }


TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": SANS, "size": 12, "color": INK},
        "colorway": list(PALETTE),
        "paper_bgcolor": SURFACE,
        "plot_bgcolor": SURFACE,
        "title": {"font": {"size": 15, "color": INK}, "x": 0, "xref": "container", "xanchor": "left"},
        "margin": {"l": 56, "r": 16, "t": 48, "b": 48},
        "hovermode": "closest",
        "hoverlabel": {"font": {"family": SANS, "size": 12}, "bgcolor": SURFACE},
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": -0.22,
            "yanchor": "top",
            "font": {"size": 11, "color": MUTED},
        },
        "xaxis": _axis(),
        "yaxis": _axis(),
        "colorscale": {"sequential": [[i / 6, colour] for i, colour in enumerate(_LADDER)]},
    }
)
