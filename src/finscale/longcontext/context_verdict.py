"""How far back can the model look? The loss of every context kept against that of the whole one, by date.

T bars of the whole context. Seeds and instruments of a date are averaged first. No torch.
"""

from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

from finscale.core.config import Record
from finscale.core.seeding import derive
from finscale.longcontext.context_differences import Difference, Draws, SeedNoise, differences, seed_noise
from finscale.longcontext.context_sweep import Kind
from finscale.metrics.significance import date_means
from finscale.windows.measures import Measure

__all__ = ["Answer", "ContextRow", "ContextVerdict", "SplitVerdict", "context_verdict"]

SPLITS = ("val_score", "test")
"""The first one decides, the other is a second look."""

Answer = Literal["nothing_to_look_back_for", "shorter_is_enough", "whole_context", "not_measurable"]


class ContextRow(Record):
    """What one context kept gives.

    Attributes
    ----------
    n_seeds : int
        Trainings that ended.
    loss : float
        Mean over dates and seeds.
    gap : Difference or None
        Its loss less that of the whole context: positive is worse. None for the whole one itself.
    lead : Difference or None
        The reference's loss less its own: positive is better. None where bars are hidden.
    """

    kind: Kind
    context_length: int
    n_seeds: int
    loss: float
    gap: Difference | None
    lead: Difference | None


class SplitVerdict(Record):
    """The sweep on one split.

    Attributes
    ----------
    answer : str
        See `ContextVerdict`.
    enough : int or None
        The shortest context such that neither it nor any longer one is detectably worse than the whole one.
    seed_sd : float or None
        Standard deviation of the loss between trainings that differ in their seed alone; None with one each.
    rows : tuple of ContextRow
        Trained, then hidden, each ascending in context.
    baselines : dict
        Loss of every baseline on the same rows, ascending.
    """

    split: str
    answer: Answer
    enough: int | None
    seed_sd: float | None
    rows: tuple[ContextRow, ...]
    baselines: dict[str, float]

    def of(self, kind: Kind) -> tuple[ContextRow, ...]:
        """Return the rows of one kind."""
        return tuple(row for row in self.rows if row.kind == kind)


class ContextVerdict(Record):
    """What a context sweep shows: ``verdict.json``.

    Attributes
    ----------
    cell : str
        Budget and horizon.
    context_length : int
        T, the whole context.
    words, unit : str
        Of the loss.
    reference : str
        The baseline that knows the training targets and nothing of the past bars.
    hidden : str
        Why no bars were hidden; empty where some were.
    splits : tuple of SplitVerdict
        ``val_score`` decides; ``test`` is a second look. ``nothing_to_look_back_for``: no context beats the
        reference. ``not_measurable``: too few dates, or no training of the whole context ended.
    """

    cell: str
    context_length: int
    words: str
    unit: str
    reference: str
    hidden: str
    splits: tuple[SplitVerdict, ...]


def context_verdict(
    losses: pd.DataFrame,
    baseline_losses: pd.DataFrame,
    measure: Measure,
    *,
    cell: str,
    context_length: int,
    horizon: int,
    seed: int,
    n_draws: int,
    hidden: str = "",
) -> ContextVerdict:
    """Judge a sweep from its losses by date.

    Parameters
    ----------
    losses : DataFrame
        Of `finscale.longcontext.context_sweep.loss_table`.
    baseline_losses : DataFrame
        Of the same windows (`finscale.windows.baselines.baseline_table`).
    horizon : int
        Of the labels, in bars.
    seed, n_draws : int
        Of the bootstrap of dates.
    hidden : str
        Why no bars were hidden; empty where some were.
    """
    found = []
    for split in SPLITS:
        draws = Draws(horizon=horizon, seed=derive(seed, "context_sweep", split), n_draws=n_draws)
        rows, baselines = (table[table["split"] == split] for table in (losses, baseline_losses))
        if len(rows):
            found.append(_split(split, rows, baselines, measure, whole=context_length, draws=draws))
    return ContextVerdict(
        cell=cell,
        context_length=context_length,
        words=measure.words,
        unit=measure.unit,
        reference=measure.reference,
        hidden=hidden,
        splits=tuple(found),
    )


def _split(
    split: str,
    losses: pd.DataFrame,
    baselines: pd.DataFrame,
    measure: Measure,
    *,
    whole: int,
    draws: Draws,
) -> SplitVerdict:
    by_date = {
        kind: _by_date(rows, "context_length", measure.column)
        for kind, rows in losses.groupby("kind", sort=False)
    }
    references = _by_date(baselines, "baseline", measure.column)
    trained = by_date["trained"]
    noise = seed_noise(losses[losses["kind"] == "trained"], measure.column)
    leads = differences(trained.rsub(references[measure.reference], axis=0), draws, noise=noise)
    n_seeds = losses.groupby(["kind", "context_length"])["seed"].nunique().to_dict()
    rows = [
        ContextRow(
            kind=kind,
            context_length=n_bars,
            n_seeds=n_seeds[kind, n_bars],
            loss=float(table[n_bars].mean()),
            gap=gaps.get(n_bars),
            lead=leads[n_bars] if kind == "trained" else None,
        )
        for kind, table in by_date.items()
        for gaps in [_gaps(table, trained, whole, draws, noise=noise if kind == "trained" else None)]
        for n_bars in table
    ]
    enough = _enough([row for row in rows if row.kind == "trained"], whole)
    return SplitVerdict(
        split=split,
        answer=_answer(enough, leads, whole),
        enough=enough,
        seed_sd=noise.sd if noise else None,
        rows=tuple(rows),
        baselines=references.mean().sort_values().to_dict(),
    )


def _by_date(rows: pd.DataFrame, columns: str, loss: str) -> pd.DataFrame:
    """One row per date, one column per model, ascending in both; seeds and instruments are averaged."""
    means = {name: date_means(found["date"], found[loss]) for name, found in rows.groupby(columns)}
    return pd.DataFrame(means)


def _gaps(
    table: pd.DataFrame, trained: pd.DataFrame, whole: int, draws: Draws, *, noise: SeedNoise | None
) -> dict[Any, Difference]:
    """Each context's loss less that of the whole one; nothing where no training of that one ended.

    Hidden bars are asked of the very same trainings, whose seeds are then no source of noise.
    """
    if whole not in trained:
        return {}
    gaps = table.drop(columns=whole, errors="ignore").sub(trained[whole], axis=0)
    return differences(gaps, draws, noise=noise, against=whole)


def _enough(trained: list[ContextRow], whole: int) -> int | None:
    """The shortest context that is, with all longer ones, not detectably worse than the whole one."""
    gaps = {row.context_length: row.gap for row in trained}
    if whole not in gaps:
        return None
    enough = whole
    for n_bars in sorted(set(gaps) - {whole}, reverse=True):
        gap = gaps[n_bars]
        if gap is None or gap.adjusted is None:
            return None
        if gap.is_positive:
            break
        enough = n_bars
    return enough


def _answer(enough: int | None, leads: Mapping[Any, Difference], whole: int) -> Answer:
    if enough is None or all(lead.adjusted is None for lead in leads.values()):
        return "not_measurable"
    if not any(lead.is_positive for lead in leads.values()):
        return "nothing_to_look_back_for"
    return "whole_context" if enough == whole else "shorter_is_enough"
