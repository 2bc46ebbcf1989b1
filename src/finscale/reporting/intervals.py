"""Date-block intervals of every cell's excess loss: the same dates and draws for all budgets of a horizon."""

import pandas as pd

from finscale.core.seeding import derive
from finscale.metrics.significance import DateBlockInterval, block_length, date_block_intervals
from finscale.reporting.study import CellKey, ReportInput

__all__ = [
    "best_baseline",
    "block_lengths",
    "cell_intervals",
    "horizon_intervals",
    "losses_by_date",
    "overall_intervals",
]


def best_baseline(study: ReportInput, *, horizon: int, split: str) -> str | None:
    """Return the baseline of lowest loss other than the reference; None without one."""
    table = study.baselines
    rows = table[(table["horizon"] == horizon) & (table["split"] == split)]
    rows = rows[rows["baseline"] != study.measure.reference]
    ordered = rows.dropna(subset=["loss"]).sort_values("loss")
    return None if ordered.empty else str(ordered["baseline"].iloc[0])


def cell_intervals(
    study: ReportInput, *, split: str, against: str | None = None
) -> dict[CellKey, DateBlockInterval]:
    """Return the interval of baseline - model loss for every cell that has per-date losses.

    Parameters
    ----------
    split : str
        ``val_score`` or ``test``.
    against : str or None
        None compares with the reference; ``"best"`` with each horizon's best other baseline on that split.
    """
    found: dict[CellKey, DateBlockInterval] = {}
    for horizon in study.horizons:
        intervals = horizon_intervals(study, horizon=horizon, split=split, against=against)
        found |= {CellKey(budget, horizon): interval for budget, interval in intervals.items()}
    return found


def horizon_intervals(
    study: ReportInput, *, horizon: int, split: str, against: str | None = None
) -> dict[str, DateBlockInterval]:
    """Return the intervals of one horizon's cells by budget, all from the same draws; none without dates."""
    differences = _differences(study, horizon=horizon, split=split, against=against)
    if differences.empty:
        return {}
    seed = derive(study.seed, "date_blocks", split, horizon)
    found = date_block_intervals(differences, horizon=horizon, seed=seed, n_draws=study.n_draws)
    return {str(budget): interval for budget, interval in found.items()}


def block_lengths(study: ReportInput, *, split: str) -> dict[int, int]:
    """Return the mean block length in dates of every horizon with per-date losses."""
    tables = {h: _differences(study, horizon=h, split=split, against=None).dropna() for h in study.horizons}
    return {h: block_length(table, horizon=h) for h, table in tables.items() if len(table)}


def overall_intervals(study: ReportInput, *, split: str) -> dict[str, DateBlockInterval]:
    """Return, per budget, the interval of the excess loss averaged over the verdict's horizons."""
    horizons = study.verdict.overall.horizons
    frames = [_differences(study, horizon=horizon, split=split, against=None) for horizon in horizons]
    budgets = [b for b in study.verdict.overall.budgets if frames and all(b in frame for frame in frames)]
    if not budgets:
        return {}
    stacked = pd.concat([frame[budgets].dropna() for frame in frames], keys=horizons)
    shared = stacked.groupby(level="date").filter(lambda rows: len(rows) == len(horizons))
    averaged = shared.groupby(level="date").mean()
    seed = derive(study.seed, "date_blocks", split, "overall")
    found = date_block_intervals(averaged, horizon=max(horizons), seed=seed, n_draws=study.n_draws)
    return {str(budget): interval for budget, interval in found.items()}


def losses_by_date(study: ReportInput, *, horizon: int, split: str) -> pd.DataFrame:
    """Return the losses of every budget, seeds averaged, and of every baseline, one row per shared date."""
    rows = study.date_losses
    model = _of_finished_runs(study, rows[(rows["horizon"] == horizon) & (rows["split"] == split)])
    table = study.baselines_by_date
    baselines = table[(table["horizon"] == horizon) & (table["split"] == split)]
    parts = [
        part.pivot_table(index="date", columns=columns, values="loss", aggfunc="mean")
        for part, columns in ((model, "budget"), (baselines, "baseline"))
    ]
    return parts[0].join(parts[1], how="inner").dropna()


def _differences(study: ReportInput, *, horizon: int, split: str, against: str | None) -> pd.DataFrame:
    """Return baseline - model per date, one column per budget; seeds are averaged."""
    table = study.date_losses
    rows = _of_finished_runs(study, table[(table["horizon"] == horizon) & (table["split"] == split)])
    model = rows.pivot_table(index="date", columns="budget", values="loss", aggfunc="mean")
    reference = _reference(study, rows, horizon=horizon, split=split, against=against)
    shared = model.index.intersection(reference.index)
    return model.loc[shared].rsub(reference.loc[shared], axis=0)


def _of_finished_runs(study: ReportInput, rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the per-date losses of the runs that the cells' means are made of."""
    keys = ["budget", "horizon", "seed"]
    finished = study.cells[study.cells["outcome"] == "complete"][keys].drop_duplicates()
    return rows.merge(finished, on=keys)


def _reference(
    study: ReportInput, rows: pd.DataFrame, *, horizon: int, split: str, against: str | None
) -> pd.Series:
    if against is None:
        return rows.groupby("date")["base_rate_loss"].mean()
    table = study.baselines_by_date
    name = best_baseline(study, horizon=horizon, split=split)
    chosen = (table["horizon"] == horizon) & (table["split"] == split) & (table["baseline"] == name)
    return table[chosen].groupby("date")["loss"].mean()
