"""What a person sees after a command: what was done, beside its baselines, where it is, what comes next."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from rich import get_console
from rich.table import Table

from finscale.core.config import leaves_of
from finscale.longcontext.context_sentences import answer_words, context_sentences
from finscale.longcontext.context_verdict import ContextVerdict
from finscale.runtime.definition import group
from finscale.windows.measures import measure_of

__all__ = ["print_summary"]

_SHOWN_SCORES = 3


def print_summary(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Print the summary of the furthest stage that this run reached."""
    made = pipeline.all_outputs()
    for output, show in _STAGES.items():
        if output in made and catalog.exists(output):
            show(catalog, catalog.load(output))
            return


def _search(catalog: CatalogProtocol, summary: Mapping[str, Any]) -> None:
    best = summary["best"]
    cell = group(catalog.load("parameters"), "cell")
    losses = {f"best of {best['n_trials']} trials": best["best_val_loss"], **best["baselines"]}
    measure = measure_of(group(catalog.load("parameters"), "definition").data.task)
    table = Table("val_select", measure.axis, title=f"Search of {cell.id}", title_justify="left")
    for name, loss in sorted(losses.items(), key=lambda item: item[1]):
        table.add_row(name, f"{loss:.4f}")
    where = f"{_tried(summary)}\nStudy: {catalog['study_folder'].load()}"
    _print(table, where, _next(catalog, "training"))
    for flag in summary["flags"]:
        get_console().print(f"[yellow]! {flag}", highlight=False)


def _tried(summary: Mapping[str, Any]) -> str:
    """What the search covered of its grid, a line per dimension."""
    return "\n".join(
        f"{found['dimension']}: tried {_numbers(found['tried'])} of {_numbers(found['in_grid'])}"
        for found in summary["coverage"]
    )


def _numbers(values: Sequence[int]) -> str:
    return " ".join(map(str, values))


def _training(catalog: CatalogProtocol, runs: pd.DataFrame) -> None:
    cell = group(catalog.load("parameters"), "cell")
    baselines = catalog.load("baseline_scores")
    measure = measure_of(group(catalog.load("parameters"), "definition").data.task)
    score = measure.scores[0]
    heads = ("split", "forecast", measure.axis, score.replace("_", " "))
    table = Table(*heads, title=f"Winner of {cell.id}", title_justify="left")
    for split in ("val_score", "test"):
        rows = runs[runs["split"] == split]
        losses = rows[measure.column]
        spread = f" ({losses.min():.4f} to {losses.max():.4f})" if len(rows) > 1 else ""
        lines = [
            (
                f"model, {len(rows)} seed{'s' * (len(rows) > 1)}{spread}",
                losses.mean(),
                rows[score].mean(),
            )
        ]
        on_split = baselines[baselines["split"] == split]
        lines += list(on_split[["baseline", measure.column, score]].itertuples(index=False, name=None))
        for name, loss, scored in sorted(lines, key=lambda line: line[1]):
            table.add_row(split, name, f"{loss:.4f}", f"{scored:.3f}")
    flags = sorted({flag for found in runs["flags"] for flag in found})
    note = f"Flags: {', '.join(flags)}. " if flags else ""
    folder = f"{note}Runs: {catalog['training_folder'].load()}"
    _print(table, folder, _next(catalog, "scaling_analysis"))


def _contexts(catalog: CatalogProtocol, found: Mapping[str, Any]) -> None:
    verdict = ContextVerdict.read(found, subject="context verdict")
    headline = answer_words(verdict.splits[0]) if verdict.splits else "Not measurable"
    console = get_console()
    console.print(f"\nContext sweep of {verdict.cell}: [bold]{headline}[/bold]", highlight=False)
    for sentence in context_sentences(verdict):
        console.print(sentence, highlight=False)
    where = catalog["context_page"]._describe()["filepath"]
    console.print(f"\nPage:   {where}", highlight=False, soft_wrap=True)
    console.print(f"Next:   {_next(catalog, 'scaling_analysis')}", highlight=False, soft_wrap=True)


def _features(catalog: CatalogProtocol, features: pd.DataFrame) -> None:
    card = catalog.load("data_card")
    n_rows, n_features = features.shape
    kept = f"{n_features} features of {n_rows:,} bars, after a warm-up of {features.attrs['n_warm_up']}"
    get_console().print(f"{card['line']}\n{kept} ({features.attrs['slowest']}).", highlight=False)
    get_console().print(f"Next:   {_next(catalog, 'dataset')}", highlight=False, soft_wrap=True)


def _baselines(catalog: CatalogProtocol, scores: pd.DataFrame) -> None:
    """Baselines and windows: what a model will have to beat."""
    spec = catalog.load("windows").spec
    shown = [str(name) for name in scores.select_dtypes("number") if name != "n"][:_SHOWN_SCORES]
    table = Table("split", "baseline", *(name.replace("_", " ") for name in shown), title_justify="left")
    table.columns[1].no_wrap = True
    table.title = f"Baselines of {spec.experiment}, {spec.task}, horizon {spec.horizon}"
    for row in scores[scores["split"] != "val_select"].to_dict("records"):
        table.add_row(row["split"], row["baseline"], *(f"{row[name]:.4f}" for name in shown))
    page = Path(catalog["feature_page"]._describe()["filepath"])
    where = f"Windows: {catalog['windows_folder'].load()}\nFigures: {page.parent}"
    _print(table, where, _next(catalog, "hpo"))
    notes = scores.loc[scores["note"] != "", ["baseline", "note"]].drop_duplicates()
    for name, note in notes.itertuples(index=False):
        get_console().print(f"{name}: {note}", highlight=False)
    for warning in catalog.load("window_warnings"):
        get_console().print(f"[yellow]! {warning}", highlight=False)


def _verdict(catalog: CatalogProtocol, summary: Mapping[str, Any]) -> None:
    console = get_console()
    console.print(f"\n{summary['title']}\n[bold]{summary['headline']}[/bold]", highlight=False)
    for sentence in summary["sentences"]:
        console.print(sentence, highlight=False)
    for warning in summary["warnings"]:
        console.print(f"[yellow]! {warning}", highlight=False)
    where = Path(catalog["scaling_report"]._describe()["filepath"])
    console.print(f"\nReport: {where}\nTables: {where.with_suffix('.md')}", highlight=False, soft_wrap=True)
    console.print("Next:   kedro viz run, kedro mlflow ui, or more cells: kedro sweep", highlight=False)


def _print(table: Table, where: str, following: str) -> None:
    console = get_console()
    console.print(table)
    console.print(f"{where}\nNext:   {following}", highlight=False, soft_wrap=True)


def _next(catalog: CatalogProtocol, pipeline: str) -> str:
    """The command of the next stage for the same environment, experiment and cell."""
    parameters = catalog.load("parameters")
    cell, definition = group(parameters, "cell"), group(parameters, "definition")
    environment = parameters["provenance"]["environment"]
    chosen = "" if environment == "local" else f" --env {environment}"
    params = f"experiment={definition.name},budget={cell.budget},horizon={cell.horizon}"
    typed = "".join(f",{name}={value}" for name, value in leaves_of(parameters["data"], "data"))
    return f"kedro run{chosen} --pipelines {pipeline} --params {params}{typed}"


_STAGES: dict[str, Callable[[CatalogProtocol, Any], None]] = {
    "scaling_summary": _verdict,
    "context_verdict": _contexts,
    "runs": _training,
    "search_summary": _search,
    "baseline_scores": _baselines,
    "features": _features,
}
