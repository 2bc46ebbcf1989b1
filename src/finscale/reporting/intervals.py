"""Date-block intervals of every cell's excess loss: the same dates and draws for all budgets of a horizon."""

import pandas as pd

from finscale.core.seeding import derive
from finscale.metrics.significance import DateBlockInterval, block_length, date_block_intervals
from finscale.reporting.study import CellKey, ReportInput

__all__ = [
    "BASE_RATE",
    "best_baseline",
    "block_lengths",
    "cell_intervals",
    "horizon_intervals",
    "overall_intervals",
]

BASE_RATE = "base_rate"


def best_baseline(study: ReportInput, *, horizon: int, split: str) -> str | None:
    """Return the baseline of lowest log loss other than the base rate; None without one."""
    table = study.baselines
    rows = table[(table["horizon"] == horizon) & (table["split"] == split) & (table["baseline"] != BASE_RATE)]
    ordered = rows.dropna(subset=["log_loss"]).sort_values("log_loss")
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
        None compares with the base rate; ``"best"`` with each horizon's best other baseline on that split.
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


def against_baselines(study: ReportInput, *, split: str = "test") -> str | None:
    """Say how the models stand against the best baseline of their horizon; None without per-date losses."""
    found = cell_intervals(study, split=split, against="best").values()
    known = [(cell.low, cell.high) for cell in found if cell.low is not None and cell.high is not None]
    if not known:
        return None
    behind, ahead = sum(high < 0 for _, high in known), sum(low > 0 for low, _ in known)
    names = {h: best_baseline(study, horizon=h, split=split) for h in study.horizons}
    best = ", ".join(f"{str(name).replace('_', ' ')} at horizon {h}" for h, name in names.items() if name)
    level = len(known) - behind - ahead
    return (
        f"Against the best baseline on the test period ({best}), the model is worse in {behind} of "
        f"{len(known)} cells, better in {ahead}, and level in {level} (95 % date-block intervals)."
    )


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


def _differences(study: ReportInput, *, horizon: int, split: str, against: str | None) -> pd.DataFrame:
    """Return baseline - model per date, one column per budget; seeds are averaged."""
    table = study.date_losses
    rows = _of_finished_runs(study, table[(table["horizon"] == horizon) & (table["split"] == split)])
    model = rows.pivot_table(index="date", columns="budget", values="log_loss", aggfunc="mean")
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
    return table[chosen].groupby("date")["log_loss"].mean()
