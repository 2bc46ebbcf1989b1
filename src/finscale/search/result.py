"""Where a search stands: its trials by outcome, what of the grid it covered, its winner."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import optuna
import pandas as pd
from optuna.trial import FrozenTrial

from finscale.core.config import Record
from finscale.search.additions import RECOVERED_FILE, Additions
from finscale.search.best import BestParams
from finscale.search.config import SearchConfig
from finscale.search.coverage import Coverage, coverage
from finscale.search.driver import DriverResult
from finscale.search.extremes import Corner, corners
from finscale.search.proposals import is_counted
from finscale.search.transfer import TransferReport, report

__all__ = ["SearchResult", "result_of"]

MIN_RANDOM = 10


class SearchResult(Record):
    """Where a search stands when its driver returns.

    Parameters
    ----------
    outcome : {"complete", "stopped", "failed"}
        ``stopped`` was asked to; ``failed`` spent its budget of failures.
    reason : str
        In words, unless complete.
    n_finished, n_trials : int
        Trials that count, and the total asked for.
    counts : dict
        Trials by outcome (``running`` ones wait to be adopted).
    corners : tuple of Corner
        The six extremes, and which of them the grid has.
    coverage : tuple of Coverage
        Depths, widths and heads that were tried, of those that the grid has.
    transfer : TransferReport or None
        How transferred trials did, where they were asked for.
    recovered : dict
        Trials of ``hpo.recover`` by what became of them.
    best : BestParams or None
        The winner so far.
    flags : tuple of str
        What a reader of the result must know.
    """

    outcome: Literal["complete", "stopped", "failed"]
    reason: str
    n_finished: int
    n_trials: int
    counts: dict[str, int]
    corners: tuple[Corner, ...]
    coverage: tuple[Coverage, ...]
    transfer: TransferReport | None
    recovered: dict[str, int]
    best: BestParams | None
    flags: tuple[str, ...]


def result_of(
    study: optuna.Study,
    config: SearchConfig,
    ended: DriverResult,
    added: Additions,
    *,
    table: pd.DataFrame,
    best: BestParams | None,
) -> SearchResult:
    """Say where a study stands, now that its driver has ended.

    Parameters
    ----------
    table : DataFrame
        Candidates of the cell.
    """
    trials = study.get_trials(deepcopy=False)
    return SearchResult(
        outcome=ended.outcome,
        reason=ended.reason,
        n_finished=sum(map(is_counted, trials)),
        n_trials=config.n_trials,
        counts=dict(Counter(trial.user_attrs.get("outcome", "running") for trial in trials)),
        corners=corners(table),
        coverage=coverage(table, trials),
        transfer=report(trials, cells=added.prediction.cells) if config.transfer else None,
        recovered=dict(Counter(finding.status for finding in added.findings)),
        best=best,
        flags=tuple(_flags(config, trials, added)),
    )


def _flags(config: SearchConfig, trials: Sequence[FrozenTrial], added: Additions) -> Iterator[str]:
    n_random = sum(is_counted(trial) and trial.user_attrs["kind"] == "random" for trial in trials)
    if n_random < MIN_RANDOM:
        yield f"only {n_random} random trials; the analysis needs {MIN_RANDOM}"
    if config.transfer and not added.prediction.cells:
        yield "nothing was transferred: fewer than two smaller cells of the experiment are finished"
    n_refused = sum(finding.status not in ("recovered", "already there") for finding in added.findings)
    if n_refused:
        yield f"{n_refused} of {len(added.findings)} trials were not recovered: see {RECOVERED_FILE}"
