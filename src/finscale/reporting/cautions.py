"""What a reader must know before trusting a result, in plain sentences."""

import pandas as pd

from finscale.reporting.study import CellKey, ReportInput
from finscale.scalinglaws.selection import MIN_RANDOM_TRIALS

__all__ = ["cautions", "flagged"]

_FLAGS = {
    "collapsed": "Predictions collapsed to a constant that is not the base rate",
    "constant": "Predictions are a constant",
    "capped": "Training was cut short by a cap on steps or epochs",
    "suspicious_skill": "The model is better than is believable; treat it as a leak until explained",
    "few_positives": "There are few positives, so the losses rest on few events",
    "allow_defaults": "The cell was not searched: default training parameters were used",
}

_FLAGS_OF_QUANTILES = {
    "collapsed": "Intervals collapsed: they cover far less than they name, or say nothing",
    "constant": "Quantiles are those of training, whatever the inputs",
    "suspicious_skill": "Medians are better than is believable; treat it as a leak until explained",
}


def cautions(study: ReportInput) -> tuple[str, ...]:
    """Return every warning as a sentence, with the cells it concerns."""
    missing = study.missing
    found = [f"Missing cells: {', '.join(missing)}."] if missing else []
    return (
        *study.warnings,
        *found,
        *_unfinished(study),
        *flagged(study, study.cells),
        *_thin_searches(study),
    )


def _unfinished(study: ReportInput) -> list[str]:
    outcomes = study.cells[study.cells["outcome"] != "complete"].groupby("outcome")
    return [f"Runs that {_past(str(outcome))}: {_where(study, rows)}." for outcome, rows in outcomes]


def _past(outcome: str) -> str:
    return {"diverged": "diverged", "stopped": "were stopped before the end"}.get(
        outcome, f"ended as {outcome}"
    )


def flagged(study: ReportInput, cells: pd.DataFrame) -> list[str]:
    """Return what the flags of these rows of the study's cells mean, each with the runs that raised it."""
    exploded = cells.assign(flag=cells["flags"].map(list)).explode("flag").dropna(subset=["flag"])
    words = _FLAGS | (_FLAGS_OF_QUANTILES if study.measure.column == "pinball_loss" else {})
    groups = exploded.groupby("flag")
    return [f"{words.get(str(flag), _spaced(str(flag)))}: {_where(study, rows)}." for flag, rows in groups]


def _spaced(flag: str) -> str:
    return flag.replace("_", " ")


def _thin_searches(study: ReportInput) -> list[str]:
    thin = study.cells[study.cells["n_random"] < MIN_RANDOM_TRIALS]
    if thin.empty:
        return []
    cells = ", ".join(_ids(thin))
    return [
        f"Fewer than {MIN_RANDOM_TRIALS} random trials, so tuning effort cannot be compared well: {cells}."
    ]


def _where(study: ReportInput, rows: pd.DataFrame) -> str:
    """Name the cells of ``rows`` with the share of their runs."""
    keys = ["n_budget", "horizon"]
    n_runs = study.cells.groupby(keys)["seed"].nunique().rename("n_runs")
    counted = rows.groupby(keys)["seed"].nunique().to_frame("n_hit").join(n_runs)
    shares = [f"{hit} of {n} runs" for hit, n in zip(counted["n_hit"], counted["n_runs"], strict=True)]
    return ", ".join(f"{cell} ({share})" for cell, share in zip(_ids(rows), shares, strict=True))


def _ids(rows: pd.DataFrame) -> list[str]:
    ordered = rows.sort_values(["n_budget", "horizon"]).drop_duplicates(["n_budget", "horizon"])
    return [CellKey(str(b), int(h)).id for b, h in zip(ordered["budget"], ordered["horizon"], strict=True)]
