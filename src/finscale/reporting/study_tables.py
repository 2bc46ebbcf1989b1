"""The tables of a report: excess loss, scores, winners, equal search effort, baselines, checklist."""

from typing import Any

import pandas as pd

from finscale.metrics.significance import DateBlockInterval
from finscale.reporting.comparisons import confidence_set_table, dm_table
from finscale.reporting.fit_tables import extrapolation_table, model_set_table, selection_table
from finscale.reporting.intervals import best_baseline, block_lengths, cell_intervals
from finscale.reporting.study import CellKey, ReportInput
from finscale.reporting.tables import Cell, Column, Table, count, interval, number, signed
from finscale.scalinglaws.selection import MIN_RANDOM_TRIALS, best_of_m_table

__all__ = [
    "baselines_table",
    "best_of_m",
    "cells_table",
    "checklist_table",
    "excess_table",
    "scores_table",
    "study_tables",
]

_SPLITS = ("val_score", "test")
_LABELS = {"auc": "AUC", "brier": "Brier", "ece": "ECE", "crps": "CRPS"}


def study_tables(study: ReportInput) -> tuple[Table, ...]:
    """Return the tables of the report in reading order; the checklist comes last."""
    searched = (study.trials["kind"] == "random").any()
    found = [
        excess_table(study),
        scores_table(study),
        cells_table(study),
        model_set_table(study),
        extrapolation_table(study),
        best_of_m(study) if searched else None,
        selection_table(study) if searched else None,
        baselines_table(study),
        dm_table(study),
        confidence_set_table(study),
    ]
    return (*(table for table in found if table is not None), checklist_table(study))


def _columns(*names: str, left: tuple[str, ...] = ("cell",)) -> tuple[Column, ...]:
    return tuple(Column(name=name, align="left" if name in left else "right") for name in names)


def _cells(study: ReportInput) -> list[tuple[CellKey, pd.DataFrame]]:
    """Return every cell's rows, ordered by budget, then horizon."""
    groups = [rows for _, rows in study.cells.groupby(["n_budget", "horizon"])]
    return [(CellKey(str(rows["budget"].iloc[0]), int(rows["horizon"].iloc[0])), rows) for rows in groups]


def _mean(rows: pd.DataFrame, split: str, column: str) -> float:
    kept = rows[(rows["split"] == split) & (rows["outcome"] == "complete")]
    return float(pd.to_numeric(kept[column], errors="coerce").mean())


def _label(score: str) -> str:
    return _LABELS.get(score, score.replace("_", " "))


def excess_table(study: ReportInput) -> Table:
    """Excess loss of every cell on both splits, with date-block intervals on the test period."""
    base = cell_intervals(study, split="test")
    best = cell_intervals(study, split="test", against="best")
    rows = [_excess_row(study, key, rows, base.get(key), best.get(key)) for key, rows in _cells(study)]
    heads = ("cell", *_SPLITS, "test, 95 %", "best baseline", "test against it, 95 %")
    measure = study.measure
    return Table(
        title="Excess loss by cell",
        columns=_columns(*heads),
        rows=tuple(rows),
        note=f"The {measure.reference_words}'s {measure.words} minus the model's in {measure.unit}, "
        "mean over seeds: positive is better. Intervals resample dates in blocks, with the same draws for "
        "every budget of a horizon. The best baseline is the one with the lowest loss on the test period "
        "itself, which favours the baseline.",
    )


def _excess_row(
    study: ReportInput,
    key: CellKey,
    rows: pd.DataFrame,
    base: DateBlockInterval | None,
    best: DateBlockInterval | None,
) -> tuple[Cell, ...]:
    name = best_baseline(study, horizon=key.horizon, split="test")
    excess = [signed(_mean(rows, split, "excess_loss")) for split in _SPLITS]
    return (Cell(value=key.id), *excess, _span(base), Cell(value=name, form="words"), _span(best))


def _span(found: DateBlockInterval | None) -> Cell:
    return Cell() if found is None else interval(found.low, found.high)


def scores_table(study: ReportInput) -> Table:
    """Losses of every cell on both splits, and the other scores on the test period."""
    scores = study.measure.scores
    shown = [("val_score", "loss"), *(("test", score) for score in ("loss", *scores))]
    rows = [
        (Cell(value=key.id), *(number(_mean(rows, *score)) for score in shown)) for key, rows in _cells(study)
    ]
    heads = ("cell", "loss val_score", "loss test", *(f"{_label(score)} test" for score in scores))
    note = f"Means over the seeds that finished. The loss is the {study.measure.axis}."
    return Table(title="Scores", columns=_columns(*heads), rows=tuple(rows), note=note)


def cells_table(study: ReportInput) -> Table:
    """The winner of every cell: its size, its shape and its search; missing cells are rows too."""
    heads = ("cell", "N", "width", "depth", "heads", "d_ff", "seeds", "trials", "random", "flags")
    rows = [_cell_row(key, rows) for key, rows in _cells(study)]
    shown = {row[0].value for row in rows}
    absent = [
        (Cell(value=cell), *[Cell()] * 8, Cell(value="missing"))
        for cell in study.missing
        if cell not in shown
    ]
    return Table(
        title="Cells and their winners",
        columns=_columns(*heads, left=("cell", "flags")),
        rows=(*rows, *absent),
        note="N is the actual parameter count of the winner.",
    )


def _cell_row(key: CellKey, rows: pd.DataFrame) -> tuple[Cell, ...]:
    first = rows.iloc[0]
    shape = [count(first[column]) for column in ("d_model", "n_layers", "n_heads", "d_ff")]
    effort = [count(rows["seed"].nunique()), count(first["n_trials"]), count(first["n_random"])]
    failures = {str(outcome) for outcome in rows["outcome"] if outcome != "complete"}
    flags = {str(flag) for flags in rows["flags"] for flag in flags} | failures
    words = ", ".join(sorted(flags)).replace("_", " ")
    size = Cell(value=float(first["n_params"]), form="n")
    return (Cell(value=key.id), size, *shape, *effort, Cell(value=words or None))


def best_of_m(study: ReportInput) -> Table:
    """The selection-bias guard: what an equally long random search would have found in every cell."""
    rows = [_best_row(row) for row in best_of_m_table(study.trials).itertuples()]
    heads = ("cell", "random trials", "m", "expected loss", "expected excess", "remark")
    return Table(
        title="Equal search effort",
        columns=_columns(*heads, left=("cell", "remark")),
        rows=tuple(rows),
        note="Expected best of m random trials, the same m in every cell, on the half of validation that the "
        "search saw. A trend that is absent here may come from unequal searches.",
    )


def _best_row(row: Any) -> tuple[Cell, ...]:
    remark = None if row.enough else f"fewer than {MIN_RANDOM_TRIALS}"
    losses = (number(row.expected_loss), signed(row.expected_excess_loss))
    key = CellKey(row.budget, row.horizon)
    return (Cell(value=key.id), count(row.n_random), count(row.m), *losses, Cell(value=remark))


def baselines_table(study: ReportInput) -> Table:
    """The baselines of every horizon on both splits."""
    score = study.measure.scores[0]
    groups = [rows for _, rows in study.baselines.groupby(["horizon", "baseline"])]
    rows = [(*_named(group), *_baseline_scores(group, score)) for group in groups]
    scores = [f"{what} {split}" for split in _SPLITS for what in ("loss", "excess", _label(score))]
    columns = _columns("horizon", "baseline", *scores, left=("horizon", "baseline"))
    measure = study.measure
    note = f"Excess over the {measure.reference_words} in {measure.unit}: positive is better."
    return Table(title="Baselines", columns=columns, rows=tuple(rows), note=note)


def _named(rows: pd.DataFrame) -> tuple[Cell, Cell]:
    return count(rows["horizon"].iloc[0]), Cell(value=str(rows["baseline"].iloc[0]), form="words")


def _baseline_scores(rows: pd.DataFrame, score: str) -> list[Cell]:
    names = ["loss", "excess_loss", score]
    means = rows.reindex(columns=["split", *names]).groupby("split").mean().reindex(list(_SPLITS))
    cells: list[Cell] = []
    for loss, excess, scored in means.to_numpy(dtype=float).tolist():
        cells += [number(loss), signed(excess), number(scored)]
    return cells


def checklist_table(study: ReportInput) -> Table:
    """What a reader needs to judge or repeat the study."""
    verdict, told, measure = study.verdict, study.checklist, study.measure
    low, high = verdict.n_seeds
    seeds = f"{low}" if low == high else f"{low} to {high}"
    rows = [
        ("form tested", "a line in log10 N; a constant, a quadratic and E + A N^-alpha are fitted beside it"),
        ("units", f"{measure.unit_is} ({measure.unit}); slope per decade of N"),
        ("model", told.model),
        ("which N", told.which_n),
        ("D", told.d_definition),
        ("runs per cell", f"{seeds} seeds, retrained after the search; the search's own value is not used"),
        ("checkpoint", told.checkpoint),
        ("objective", told.objective),
        ("delta", "none: squared residuals in the one-variable law"),
        ("optimiser", told.optimiser),
        ("starts", "none: the law in N is fitted by variable projection over a grid of alpha, refined"),
        ("unit of inference", "the cell: seeds averaged, then horizons averaged within a budget"),
        ("bootstrap unit", _bootstrap_unit(study)),
        ("dropped points", f"{verdict.n_dropped} runs; missing cells: {', '.join(study.missing) or 'none'}"),
        ("deviations", "; ".join(told.deviations) or "none"),
    ]
    return Table(
        title="Checklist",
        columns=_columns("item", "this study", left=("item", "this study")),
        rows=tuple((Cell(value=item), Cell(value=said)) for item, said in rows),
    )


def _bootstrap_unit(study: ReportInput) -> str:
    lengths = block_lengths(study, split="test")
    blocks = ", ".join(f"{length} at horizon {horizon}" for horizon, length in lengths.items())
    return f"dates, in blocks of mean length {blocks}" if blocks else "dates; no per-date losses were given"
