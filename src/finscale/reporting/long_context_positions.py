"""Figures of what codes of positions can tell apart, and with which arithmetic."""

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from finscale.reporting.chart import blank
from finscale.reporting.long_context import finish, mode_styles
from finscale.reporting.tables import Column, Table, number
from finscale.reporting.template import MUTED

__all__ = ["discrepancy_table", "position_figures"]

_FLOOR = 1e-17
_COUNTED = 1e-6
_PI_MARKS = (113, 355)


def position_figures(
    table: pd.DataFrame, *, modes: Sequence[str], title: str, provenance: str
) -> dict[str, go.Figure]:
    """Return the figures of a block's codes by name; none where it has no code.

    Parameters
    ----------
    table : DataFrame
        Of `finscale.longcontext.position_probe.position_table`.
    modes : sequence of str
        All of the block: a mode has the colour that it has everywhere.
    title, provenance : str
        Of the experiment; written under the figure.
    """
    measured, found = set(table["measure"]), {}
    if "return" in measured:
        found["position_returns"] = _returns(table, modes), "how close a code comes back to itself"
        found["position_spectrum"] = _spectrum(table, modes), "directions that a code takes"
    if "phase_error" in measured:
        found["phase_errors"] = _phase_errors(table), "error of the phase by arithmetic"
    return {
        name: finish(
            figure,
            title=f"{title}: {what}",
            caption=figure.layout.meta["caption"],
            provenance=provenance,
            height=440,
        )
        for name, (figure, what) in found.items()
    }


def discrepancy_table(table: pd.DataFrame) -> Table | None:
    """Return how far the first phases of each constant are from even; None where no mode is a spiral."""
    own = table[table["measure"] == "discrepancy"]
    if own.empty:
        return None
    counts, constants = sorted(own["at"].unique()), dict.fromkeys(own["of"])
    values = own.set_index(["of", "at"])["value"]
    rows = tuple((c, *(number(values[c, n], 5) for n in counts)) for c in constants)
    columns = (Column(name="constant", align="left"), *(Column(name=str(n)) for n in counts))
    note = (
        "Star discrepancy of the first so many phases frac(n c): the largest gap between a share of the turn "
        "and the share of the phases in it, 0 being even; prng is a hash of n."
    )
    return Table(title="How even the phases are", columns=columns, rows=rows, note=note)


def _returns(table: pd.DataFrame, modes: Sequence[str]) -> go.Figure:
    own = table[table["measure"] == "return"]
    figure = blank(
        "",
        x="offset (symbols)",
        y="1 - cosine to the start",
        caption="Smallest distance (1 - cosine) between the code of the first position and any code up to an "
        "offset: a line that falls comes back to where it began. Vertical lines: 113, where a spiral of pi "
        "returns (113 pi is 355 but for 3e-5), and 355, where it does not.",
    )
    for label, style in _styles(own["of"], modes).items():
        line = own[own["of"] == label]
        shape = {**style, "shape": "hv"}
        figure.add_trace(
            go.Scatter(x=line["at"], y=line["value"].clip(lower=_FLOOR), name=label, line=shape, mode="lines")
        )
    for offset in _PI_MARKS:
        figure.add_vline(offset, line={"dash": "dot", "color": MUTED, "width": 1})
        mark = {"text": str(offset), "yref": "paper", "y": 1.06, "showarrow": False}
        figure.add_annotation(x=math.log10(offset), font={"color": MUTED}, **mark)
    figure.update_xaxes(type="log", exponentformat="power", dtick=1)
    return figure.update_yaxes(type="log", exponentformat="power", dtick=1)


def _spectrum(table: pd.DataFrame, modes: Sequence[str]) -> go.Figure:
    own = table[table["measure"] == "singular_value"]
    ranks = table[table["measure"] == "rank"].set_index("of")
    figure = blank(
        "",
        x="number",
        y="singular value, over the largest",
        caption="Singular values of the codes of all positions up to the longest length (512 at least); the "
        "rank counts those above a millionth of the largest (dotted).",
    )
    for label, style in _styles(own["of"], modes).items():
        line, rank = own[own["of"] == label], ranks.loc[label]
        name = f"{label}: rank {rank['value']:.0f} of {rank['at']}"
        shown = line[line["value"] > _COUNTED / 1e3]
        figure.add_trace(
            go.Scatter(x=shown["at"], y=shown["value"], name=name, line=style, mode="lines+markers")
        )
    figure.add_hline(_COUNTED, line={"dash": "dot", "color": MUTED})
    return figure.update_yaxes(type="log", exponentformat="power")


def _phase_errors(table: pd.DataFrame) -> go.Figure:
    own = table[table["measure"] == "phase_error"]
    figure = blank(
        "",
        x="position",
        y="largest error (turns)",
        caption="Largest error of frac(n c) against 100-digit arithmetic, over 16 positions of every octave; "
        "half a turn is no phase at all. The models compute in fixed point; the others show what n times c "
        "would be in that type. An error of 0 is drawn at the lower edge.",
    )
    for arithmetic, style in mode_styles(list(dict.fromkeys(own["of"]))).items():
        line = own[own["of"] == arithmetic]
        figure.add_trace(
            go.Scatter(
                x=line["at"],
                y=line["value"].clip(lower=_FLOOR),
                name=arithmetic.replace("_", " "),
                line=style,
            )
        )
    figure.add_hline(0.5, line={"dash": "dot", "color": MUTED})
    figure.update_xaxes(type="log", exponentformat="power")
    return figure.update_yaxes(type="log", exponentformat="power")


def _styles(labels: pd.Series, modes: Sequence[str]) -> dict[str, dict[str, str]]:
    """Give the code of several modes the style of the first of them."""
    styles = mode_styles(modes)
    return {label: styles[label.split(", ")[0]] for label in dict.fromkeys(labels)}
