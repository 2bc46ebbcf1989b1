"""Chronological splits in which no label reaches into a later split.

t origin row, h longest trained horizon, b first row of a split *of the origin's instrument*, T context
length. ``lead`` is 0 where an origin belongs to the split of its own row, 1 (forecast) where it belongs to
the split that holds all its h target rows, so that its context may end one row before.

Sequences share no clock: each is a session of its own (`finscale.windows.rows.Rows`), in the order of first
appearance. So whole sequences are held out, by shares alone, and no label can reach into another split.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.errors import Fault
from finscale.windows.data import SPLITS
from finscale.windows.experiment import SplitConfig
from finscale.windows.plan import SplitPlan, plan_faults, plan_splits
from finscale.windows.rows import Rows

__all__ = ["Division", "Origins", "sequence_faults", "split_faults", "split_origins", "training_rows"]

Origins = dict[str, NDArray[np.int64]]


class Division(TypedDict):
    """How the functions here are told to divide rows: the setting, h, ``lead`` and the fold."""

    split: SplitConfig
    horizon: int
    lead: int
    fold: int


def split_origins(
    rows: Rows,
    known: NDArray[np.bool_],
    *,
    split: SplitConfig,
    horizon: int,
    min_context_length: int,
    lead: int = 0,
    fold: int = 0,
) -> Origins:
    """Return the origins of each split.

    A split owns, in each instrument, the rows from its boundary b to the next one, b'. Its origins are
    those t (t + lead >= b) that have their shortest context and a known label, which ends before the gap
    that precedes the next split (t + h < b' - gap). The same purge applies between ``val_select`` and
    ``val_score``. Training origins within ``embargo`` bars after the test of an earlier fold are dropped.

    Parameters
    ----------
    known : bool array (n_rows,)
        Whether the target of the row is known.

    Raises
    ------
    Fault
        When a split is left without an origin.
    """
    ranks, sessions = _session_ranks(rows.sessions)
    plan = plan_splits(sessions, split)[fold]
    t = np.arange(len(rows))
    able = known & (t - rows.context_starts + 1 >= min_context_length)
    firsts = [_first_rows(rows.instruments, ranks, boundary) for boundary in plan.boundaries]
    origins = {}
    for name, begin, end in zip(SPLITS, firsts, firsts[1:], strict=False):
        gap = 0 if name == "test" else split.gap
        origins[name] = np.flatnonzero(able & (t + lead >= begin) & (t + horizon < end - gap))
    origins["train"] = _without_embargo(origins["train"], rows.instruments, ranks, plan, split)
    _refuse_empty(
        origins, split, f"{len(rows)} feature rows, horizon {horizon}, context {min_context_length}"
    )
    return origins


def training_rows(
    rows: Rows, origins: Origins, *, split: SplitConfig, horizon: int, lead: int = 0, fold: int = 0
) -> NDArray[np.int64]:
    """Return the rows that moments may be fitted on, in order.

    Those of each instrument from the fold's first training session to its last training origin; with
    ``lead`` to the last row that is a training target.
    """
    ranks, sessions = _session_ranks(rows.sessions)
    begin = _first_rows(rows.instruments, ranks, plan_splits(sessions, split)[fold].train)
    last = np.full(len(rows.names), -1, dtype=np.int64)
    np.maximum.at(last, rows.instruments[origins["train"]], origins["train"] + lead * horizon)
    t = np.arange(len(rows))
    return np.flatnonzero((t >= begin) & (t <= last[rows.instruments]))


def _session_ranks(
    sessions: NDArray[np.datetime64],
) -> tuple[NDArray[np.int64], NDArray[np.datetime64]]:
    """Rank of each row's session (n_rows,), and the sorted unique sessions."""
    ranks, unique = pd.factorize(pd.DatetimeIndex(sessions), sort=True)
    return ranks.astype(np.int64), pd.DatetimeIndex(unique).to_numpy(dtype="datetime64[ns]")


def _first_rows(instruments: NDArray[np.int32], ranks: NDArray[np.int64], boundary: int) -> NDArray[np.int64]:
    """For each row, the first row of its instrument on or after a session; its end where there is none."""
    starts = np.flatnonzero(np.diff(instruments, prepend=-1))
    ends = np.append(starts[1:], len(instruments))
    firsts = [
        start + int(np.searchsorted(ranks[start:end], boundary))
        for start, end in zip(starts, ends, strict=True)
    ]
    return np.repeat(np.array(firsts, dtype=np.int64), ends - starts)


def _without_embargo(
    train: NDArray[np.int64],
    instruments: NDArray[np.int32],
    ranks: NDArray[np.int64],
    plan: SplitPlan,
    split: SplitConfig,
) -> NDArray[np.int64]:
    embargo = 0 if split.walk_forward is None else split.walk_forward.embargo
    for boundary in plan.embargoed if embargo else ():
        begin = _first_rows(instruments, ranks, boundary)[train]
        train = train[(train < begin) | (train >= begin + embargo)]
    return train


def _refuse_empty(origins: Origins, split: SplitConfig, basis: str) -> None:
    counts = {name: len(rows) for name, rows in origins.items()}
    needed = [count for name, count in counts.items() if name != "val_score" or split.val_select_fraction < 1]
    if 0 in needed:
        remedy = (
            "give more bars, or a shorter horizon, context_length (or min_context_length) or gap, "
            "or other boundaries"
        )
        raise Fault("data.split", "leave origins in every split", f"{counts} from {basis}", remedy)


def sequence_faults(split: SplitConfig) -> Iterator[Fault]:
    """Yield what divides time in a split of sequences, which are held out whole and by shares."""
    for name in ("dates", "gap", "walk_forward"):
        if getattr(split, name):
            rule, remedy = "be left out where a table holds sequences without a clock", "use fractions"
            yield Fault(f"data.split.{name}", rule, getattr(split, name), remedy)


def split_faults(
    origins: Mapping[str, NDArray[np.int64]],
    rows: Rows,
    *,
    split: SplitConfig,
    horizon: int,
    min_context_length: int,
    lead: int = 0,
    fold: int = 0,
) -> list[str]:
    """Return what is wrong with the origins of one fold; it shares no arithmetic with `split_origins`.

    Checked are shared origins; labels that leave their segment, or reach a later split in the same
    instrument or on the same day in another; contexts that are too short or cross a segment; sessions
    outside their part of the plan; embargoed training origins; and the plan itself.
    """
    sessions = np.unique(rows.sessions)
    plans = plan_splits(sessions, split)
    found = plan_faults(plans, split, n_sessions=len(sessions))
    for name, t in origins.items():
        found += [f"{name}: {fault}" for fault in _window_faults(t, rows, horizon, min_context_length)]
    if found:
        return found
    for name, later in combinations(origins, 2):
        if len(origins[name]) and len(origins[later]):
            found += _order_faults(
                name, origins[name] + horizon, later, origins[later] + lead, rows, split.gap
            )
        if np.isin(origins[name], origins[later]).any():
            found.append(f"{name} and {later} share origins")
    for i, name in enumerate(SPLITS):
        found += _part_faults(
            name, origins[name], rows, sessions, plans[fold].boundaries[i : i + 2], horizon, lead
        )
    return found + _embargo_faults(origins["train"], rows, sessions, plans[fold], split)


def _window_faults(t: NDArray[np.int64], rows: Rows, horizon: int, min_context_length: int) -> list[str]:
    """What is wrong with single windows: contexts and labels that leave the segment of their origin."""
    if len(t) == 0:
        return []
    starts, ends = rows.context_starts[t], t + horizon
    if ends.max() >= len(rows):
        return [f"label of row {t.max()} ends at row {ends.max()} of {len(rows)}"]
    kept = {
        "contexts shorter than allowed": t - starts + 1 >= min_context_length,
        "contexts that cross a segment": rows.segments[starts] == rows.segments[t],
        "contexts that cross an instrument": rows.instruments[starts] == rows.instruments[t],
        "labels that leave their segment": rows.segments[ends] == rows.segments[t],
        "labels that leave their instrument": rows.instruments[ends] == rows.instruments[t],
    }
    return [f"{(~good).sum()} {what}" for what, good in kept.items() if not good.all()]


def _order_faults(
    name: str, ends: NDArray[np.int64], later: str, firsts: NDArray[np.int64], rows: Rows, gap: int
) -> list[str]:
    """Labels (their last rows) that reach the first rows predicted by a later split."""
    found = []
    last, first = rows.sessions[ends].max(), rows.sessions[firsts].min()
    if last >= first:
        found.append(f"labels of {name} reach {last}, {later} begins at {first}")
    reach = pd.Series(ends).groupby(rows.instruments[ends]).max() + gap
    begins = pd.Series(firsts).groupby(rows.instruments[firsts]).min()
    pairs = pd.concat({"reach": reach, "begins": begins}, axis=1, join="inner")
    for pair in pairs[pairs["reach"] >= pairs["begins"]].itertuples():
        found.append(f"labels of {name} reach row {pair.reach}, {later} begins at {pair.begins}")
    return found


def _part_faults(
    name: str,
    t: NDArray[np.int64],
    rows: Rows,
    sessions: NDArray[np.datetime64],
    part: tuple[int, ...],
    horizon: int,
    lead: int,
) -> list[str]:
    """Origins outside the sessions that the plan gives to a split."""
    begin, end = part
    owned = sessions[begin:end]
    if len(t) == 0:
        return []
    first, last = rows.sessions[t + lead].min(), rows.sessions[t + horizon].max()
    inside = len(owned) and owned[0] <= first and last <= owned[-1]
    return [] if inside else [f"{name} spans {first} to {last}, its plan sessions {begin} to {end}"]


def _embargo_faults(
    train: NDArray[np.int64],
    rows: Rows,
    sessions: NDArray[np.datetime64],
    plan: SplitPlan,
    split: SplitConfig,
) -> list[str]:
    """Training origins among the first ``embargo`` bars of an instrument after an earlier test block."""
    found = []
    embargo = 0 if split.walk_forward is None else split.walk_forward.embargo
    for boundary in plan.embargoed if embargo else ():
        behind = np.flatnonzero(rows.sessions >= sessions[boundary])
        place = pd.Series(behind).groupby(rows.instruments[behind]).cumcount().to_numpy()
        barred = np.intersect1d(behind[place < embargo], train)
        if len(barred):
            found.append(f"{len(barred)} training origins under the embargo after session {boundary}")
    return found
