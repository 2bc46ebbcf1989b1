"""The bare page: one calm column, dark on light or light on dark as the reader prefers, nothing fetched."""

import html
import json
from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from finscale.reporting.template import DARK, SANS, SURFACE

__all__ = ["page", "plot_script"]

_SERIF = "ui-serif, 'Iowan Old Style', Charter, 'Bitstream Charter', 'Palatino Linotype', Georgia, serif"

_STYLE = f"""
:root {{ --ink: #1c2430; --muted: #5b6574; --rule: #e3e7ec; --ground: #fff; --accent: #0072b2;
  --care: #fff8ec; --care-rule: #f1dfbd; --care-ink: #7a4b00; color-scheme: light; }}
@media screen and (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e9ee; --muted: #9aa4b2; --rule: #2b3340; --ground: {DARK[SURFACE]}; --accent: #6bb6ee;
    --care: #241d10; --care-rule: #4d3d1c; --care-ink: #e8bd6a; color-scheme: dark; }}
}}
* {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }}
body {{ margin: 0; background: var(--ground); color: var(--ink); font: 17px/1.6 {_SERIF}; }}
main {{ max-width: 52rem; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; overflow-wrap: break-word; }}
h1 {{ font-size: 1.25rem; font-weight: 600; line-height: 1.3; margin: 0; }}
h2 {{ font-size: 1.55rem; font-weight: 600; line-height: 1.25; margin: 4rem 0 1rem; padding-top: 1.2rem;
     border-top: 1px solid var(--rule); }}
h3 {{ font: 600 1rem/1.4 {SANS}; margin: 2.5rem 0 .6rem; text-wrap: balance; }}
figure h3 {{ margin: 0 0 .2rem; }}
p {{ margin: 0 0 .8rem; max-width: 42rem; }}
a {{ color: var(--accent); text-decoration: none; }}
a:hover {{ text-decoration: underline; }}
.small, nav, figcaption, .note, footer, .facts {{ font: .82rem/1.55 {SANS}; color: var(--muted); }}
header .small {{ margin: .35rem 0 0; max-width: none; }}
nav {{ display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 1rem 0 2.2rem; padding-top: .8rem;
      border-top: 1px solid var(--rule); }}
.verdict {{ --mark: var(--verdict); border-left: 5px solid var(--mark); padding: .1rem 0 .1rem 1.5rem;
  margin: 0 0 1.8rem; }}
.verdict .label {{ font: 600 .75rem/1 {SANS}; letter-spacing: .09em; text-transform: uppercase;
  color: var(--mark);
                  margin: 0 0 .8rem; }}
.verdict .headline {{ font-size: clamp(1.75rem, 5vw, 2.5rem); line-height: 1.15; margin: 0 0 1rem;
  font-weight: 600;
                     letter-spacing: -.01em; text-wrap: balance; }}
.verdict .headline + p {{ font-size: 1.15rem; line-height: 1.55; }}
.verdict p:last-child {{ margin-bottom: 0; }}
.facts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: 1rem 1.5rem;
  margin: 2rem 0; }}
.facts dt {{ margin: 0; }}
.facts dd {{ margin: 0; font-size: 1.25rem; font-weight: 600; color: var(--ink);
  font-variant-numeric: tabular-nums; }}
.cautions {{ background: var(--care); border: 1px solid var(--care-rule); border-radius: 6px;
  padding: 1rem 1.3rem; margin: 2rem 0; }}
.cautions h3 {{ margin: 0 0 .4rem; color: var(--care-ink); }}
.cautions ul {{ margin: 0; padding-left: 1.1rem; font: .92rem/1.55 {SANS}; }}
.cautions li + li {{ margin-top: .3rem; }}
[data-form] {{ white-space: nowrap; }}
.clean {{ font: .92rem/1.55 {SANS}; color: var(--muted); }}
figure {{ margin: 0 0 2.2rem; min-width: 0; }}
figcaption {{ margin-top: .3rem; max-width: 42rem; }}
figcaption .source {{ display: block; opacity: .8; }}
.multiples {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr));
  gap: 0 1.5rem; }}
details > summary {{ cursor: pointer; font: 600 1rem/1.4 {SANS}; margin: 1.5rem 0 1rem;
  color: var(--accent); }}
.plot {{ width: 100%; overflow: hidden; }}
.plot + .note {{ margin: 0 0 .8rem; }}
.table {{ margin-bottom: 2.2rem; }}
.scroll {{ overflow-x: auto; -webkit-overflow-scrolling: touch; }}
table {{ border-collapse: collapse; width: 100%; font: .82rem/1.45 {SANS};
  font-variant-numeric: tabular-nums; }}
th {{ text-align: left; font-weight: 600; color: var(--muted); border-bottom: 1.5px solid var(--ink);
     vertical-align: bottom; }}
th, td {{ padding: .42rem .7rem; }}
th:first-child, td:first-child {{ padding-left: 0; }}
th:last-child, td:last-child {{ padding-right: 0; }}
td {{ border-bottom: 1px solid var(--rule); white-space: nowrap; }}
th.right, td.right {{ text-align: right; }}
td.left + td.left {{ white-space: normal; }}
.checklist td {{ white-space: normal; vertical-align: top; }}
.checklist td:first-child {{ width: 9.5rem; font-weight: 600; white-space: nowrap; }}
.note {{ margin: .6rem 0 0; }}
footer {{ margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--rule); }}
@media (max-width: 40rem) {{
  body {{ font-size: 16px; }}
  main {{ padding: 1.8rem 1.1rem 3rem; }}
  .verdict {{ padding-left: 1rem; }}
  .checklist td:first-child {{ width: 7rem; white-space: normal; }}
}}
@media screen and (prefers-color-scheme: dark) {{
  .verdict {{ --mark: color-mix(in srgb, var(--verdict), white 35%); }}
}}
@page {{ size: A4; margin: 15mm; }}
@media print {{
  body {{ font-size: 10.5pt; }}
  nav {{ display: none; }}
  main {{ max-width: none; padding: 0; }}
  h2, h3 {{ break-after: avoid; }}
  h2 {{ margin-top: 2rem; }}
  figcaption {{ break-before: avoid; break-inside: avoid; }}
  p, li, tr, .table, .verdict, .cautions, .plot, .multiples > div {{ break-inside: avoid; }}
  .multiples {{ display: block; }}
  .scroll {{ overflow: visible; }}
  table {{ font-size: 7.5pt; }}
  th, td {{ padding: .25rem .3rem; }}
  td {{ white-space: normal; overflow-wrap: normal; }}
}}
"""


_DRAW = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const literal = (colour) => colour.replace(/[()]/g, "\\$&");
const light = new RegExp(Object.keys(shades).map(literal).join("|"), "g");
let printing = false;
const themed = (figure) => {
  const text = JSON.stringify(figure);
  const isDark = dark.matches && !printing;
  return JSON.parse(isDark ? text.replace(light, (colour) => shades[colour]) : text);
};
const draw = (plot) => {
  const {data, layout} = themed(figures[plot.id]);
  const size = printing ? {width: PRINTED_WIDTH} : {};
  Plotly.purge(plot);
  const shown = {responsive: !printing, displaylogo: false, displayModeBar: false};
  Plotly.newPlot(plot, data, {...layout, ...size}, shown);
  seen.unobserve(plot);
};
const seen = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  {rootMargin: "100% 0px"},
);
const plots = [...document.querySelectorAll(".plot")];
const again = () => plots.filter((plot) => plot.childElementCount).forEach(draw);
plots.forEach((plot) => seen.observe(plot));
dark.addEventListener("change", again);
addEventListener("beforeprint", () => {
  printing = true;
  plots.filter((plot) => plot.offsetParent).forEach(draw);
});
addEventListener("afterprint", () => { printing = false; again(); });
""".replace("PRINTED_WIDTH", "670")


def plot_script(figures: Mapping[str, go.Figure]) -> str:
    """Return the script that draws each figure into the ``.plot`` of its name when it comes into view.

    ``to_json`` writes every ``<`` as an escape, so no text in a figure can close the script.
    """
    entries = ",\n".join(f'"{name}": {figure.to_json()}' for name, figure in figures.items())
    shades = json.dumps(DARK)
    return f"<script>\nconst shades = {shades};\nconst figures = {{{entries}}};{_DRAW}</script>"


def page(title: str, body: str) -> str:
    """Return a complete HTML document with the style and plotly.js inside it, once.

    Parameters
    ----------
    title : str
        Plain text; escaped here.
    body : str
        HTML of the main column.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
