"""Models against baselines on the test period: tests of equal loss, and who may be the best."""

from finscale.core.citation import cite
from finscale.core.config import Record
from finscale.core.multiplicity import AdjustedTest, adjust_tests
from finscale.core.seeding import derive
from finscale.metrics.significance import (
    ConfidenceSet,
    DieboldMariano,
    diebold_mariano,
    model_confidence_set,
)
from finscale.reporting.intervals import best_baseline, cell_intervals, losses_by_date
from finscale.reporting.study import CellKey, ReportInput
from finscale.reporting.tables import Cell, Column, Table, count, signed

__all__ = ["Standing", "confidence_set_table", "confidence_sets", "dm_table", "dm_tests", "standing"]


class BestBaseline(Record):
    """The baseline of lowest loss on the test period."""

    horizon: int
    name: str


class Standing(Record):
    """How many cells' intervals lie on each side of their horizon's best baseline, on the test period."""

    best: tuple[BestBaseline, ...]
    n_cells: int
    worse: int
    better: int
    level: int
    confidence: float

    def sentence(self, at: str) -> str:
        """Say it, each number citing the record at ``at``."""
        named = enumerate(self.best)
        best = ", ".join(
            f"{found.name.replace('_', ' ')} at horizon {cite(found.horizon, f'{at}/best/{i}/horizon')}"
            for i, found in named
        )
        counts = {name: cite(getattr(self, name), f"{at}/{name}") for name in _COUNTS}
        return (
            f"Against the best baseline on the test period ({best}), the model is worse in {counts['worse']} "
            f"of {counts['n_cells']} cells, better in {counts['better']}, and level in {counts['level']} "
            f"({cite(self.confidence, f'{at}/confidence', 'percent')} % date-block intervals)."
        )


_COUNTS = ("n_cells", "worse", "better", "level")


def standing(study: ReportInput) -> Standing | None:
    """Compare every cell with the best baseline of its horizon; None without per-date losses."""
    found = cell_intervals(study, split="test", against="best").values()
    known = [(cell.low, cell.high, cell.level) for cell in found if cell.low is not None]
    if not known:
        return None
    worse = sum(high is not None and high < 0 for _, high, _ in known)
    better = sum(low is not None and low > 0 for low, _, _ in known)
    names = {h: best_baseline(study, horizon=h, split="test") for h in study.horizons}
    return Standing(
        best=tuple(BestBaseline(horizon=h, name=name) for h, name in names.items() if name),
        n_cells=len(known),
        worse=worse,
        better=better,
        level=len(known) - worse - better,
        confidence=known[0][2],
    )


def dm_tests(study: ReportInput, *, split: str = "test") -> dict[CellKey, DieboldMariano]:
    """Test every cell, seeds averaged, against its horizon's best baseline on the same dates."""
    found = {}
    for horizon in study.horizons:
        best = best_baseline(study, horizon=horizon, split=split)
        losses = losses_by_date(study, horizon=horizon, split=split)
        for budget in (name for name in study.budgets if best in losses and name in losses):
            pair = losses[[best, budget]].dropna()
            found[CellKey(budget, horizon)] = diebold_mariano(pair[best], pair[budget], horizon=horizon)
    return found


def dm_table(study: ReportInput) -> Table | None:
    """Lay the tests out with both adjustments; None without per-date losses."""
    found = dm_tests(study)
    if not found:
        return None
    p_values = {key.id: test.p_value for key, test in found.items()}
    holm = adjust_tests(p_values, method="holm")
    bh = adjust_tests(p_values, method="benjamini_hochberg")
    rows = [
        _dm_row(study, key, test, *adjusted)
        for (key, test), *adjusted in zip(found.items(), holm, bh, strict=True)
    ]
    heads = ("cell", "best baseline", f"gain ({study.measure.unit})", "DM", "p", "p, Holm", "p, BH", "dates")
    return Table(
        title="Diebold-Mariano tests on the test period",
        columns=_columns(*heads, left=heads[:2]),
        rows=tuple(rows),
        note="Loss of the horizon's best baseline less the model's: positive favours the model. Two-sided "
        "p with a variance over h - 1 lags and the small-sample correction; Holm guards against one false "
        "claim among the cells, Benjamini-Hochberg against a large share of them.",
    )


def _dm_row(
    study: ReportInput, key: CellKey, test: DieboldMariano, holm: AdjustedTest, bh: AdjustedTest
) -> tuple[Cell, ...]:
    best = best_baseline(study, horizon=key.horizon, split="test")
    return (
        Cell(value=key.id),
        Cell(value=best, form="words"),
        signed(test.mean),
        signed(test.statistic, 2),
        *(Cell(value=p, form="p value") for p in (test.p_value, holm.adjusted, bh.adjusted)),
        count(test.n_dates),
    )


def confidence_sets(study: ReportInput, *, split: str = "test") -> dict[int, ConfidenceSet]:
    """Return, per horizon with per-date losses, the budgets and baselines that may be the best."""
    found = {}
    for horizon in study.horizons:
        losses = losses_by_date(study, horizon=horizon, split=split)
        if len(losses):
            seed = derive(study.seed, "confidence_set", split, horizon)
            found[horizon] = model_confidence_set(
                losses, horizon=horizon, seed=seed, n_draws=min(study.n_draws, _N_DRAWS)
            )
    return found


_N_DRAWS = 1000


def confidence_set_table(study: ReportInput) -> Table | None:
    """Lay the sets out, a row per horizon; None without per-date losses."""
    found = confidence_sets(study)
    if not found:
        return None
    heads = ("horizon", "may be the best", "left out", "dates", "status")
    return Table(
        title="Model confidence sets on the test period",
        columns=_columns(*heads, left=heads[1:3]),
        rows=tuple(_set_row(horizon, chosen) for horizon, chosen in found.items()),
        note="Budgets and baselines from low to high loss. Those that may be the best contain it with 90 % "
        "probability (Hansen, Lunde and Nason 2011), over the same blocks of dates for all.",
    )


def _set_row(horizon: int, chosen: ConfidenceSet) -> tuple[Cell, ...]:
    names = (tuple(name.replace("_", " ") for name in found) for found in (chosen.kept, chosen.left_out))
    status = Cell(value=chosen.status, form="words")
    return (
        count(horizon),
        *(Cell(value=found, form="list") for found in names),
        count(chosen.n_dates),
        status,
    )


def _columns(*names: str, left: tuple[str, ...]) -> tuple[Column, ...]:
    return tuple(Column(name=name, align="left" if name in left else "right") for name in names)
