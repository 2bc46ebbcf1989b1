"""No label reaches a later split; no origin lies in two; no window leaves its instrument, stretch or session.

Origins are compared with a slow reading of the definition, row by row, over panels of unequal histories with
gaps and over intraday sessions; then every fault the checker should tell is planted.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from finscale.core.errors import Fault
from finscale.features.segments import segment_ids
from finscale.windows.data import SPLITS
from finscale.windows.experiment import SplitConfig, WalkForward
from finscale.windows.plan import n_folds
from finscale.windows.rows import Rows, place_rows
from finscale.windows.splits import split_faults, split_origins, training_rows
from finscale.windows.targets import future_is_known

MAX_GAP_DAYS = 10


@dataclass(frozen=True)
class Case:
    """A table of bars and a division of it."""

    bars: pd.DataFrame
    reach: str
    split: SplitConfig
    horizon: int
    shortest: int
    lead: int
    fold: int

    @property
    def rows(self) -> Rows:
        segments = segment_ids(self.bars.index, timescale="intraday")
        return place_rows(self.bars.index, self.bars, segments=segments, context_reach=self.reach)

    @property
    def division(self) -> dict[str, object]:
        return {"split": self.split, "horizon": self.horizon, "lead": self.lead, "fold": self.fold}

    def origins(self, rows: Rows) -> dict[str, np.ndarray]:
        known = future_is_known(rows.segments, self.horizon)
        return split_origins(rows, known, min_context_length=self.shortest, **self.division)

    def faults(self, origins: dict[str, np.ndarray], rows: Rows, **changes: object) -> list[str]:
        return split_faults(origins, rows, min_context_length=self.shortest, **{**self.division, **changes})


def intraday_table(histories: list[tuple[int, int, int | None]], bars_per_session: int) -> pd.DataFrame:
    """Instruments with (first day, number of days, the day before which three weeks are missing)."""
    parts = []
    for number, (first, n_days, gap) in enumerate(histories):
        days = first + np.arange(n_days) + np.where(np.arange(n_days) >= (gap or n_days), 21, 0)
        session = np.datetime64("2010-01-01", "ns") + days.repeat(bars_per_session) * np.timedelta64(1, "D")
        slot = np.tile(np.arange(bars_per_session, dtype=np.int32), n_days)
        opened_at = pd.DatetimeIndex(session + slot * np.timedelta64(1, "h"), tz="UTC").as_unit("ns")
        index = pd.MultiIndex.from_arrays(
            [[f"i{number}"] * len(slot), opened_at], names=["instrument", "opened_at"]
        )
        parts.append(pd.DataFrame({"close": 1.0, "session": session, "slot": slot}, index=index))
    return pd.concat(parts)


divisions = st.one_of(
    st.builds(
        lambda train, gap, select: SplitConfig(
            fractions=(train, (1 - train) / 2, (1 - train) / 2), gap=gap, val_select_fraction=select
        ),
        st.sampled_from([0.4, 0.55, 0.7]),
        st.sampled_from([0, 0, 1, 7]),
        st.sampled_from([0.3, 0.5, 1.0]),
    ),
    st.builds(
        lambda n, scheme, initial, embargo, gap: SplitConfig(
            gap=gap,
            walk_forward=WalkForward(
                n_folds=n, scheme=scheme, initial_train=initial, embargo=embargo if n > 3 else 0
            ),
        ),
        st.integers(2, 6),
        st.sampled_from(["expanding", "rolling"]),
        st.sampled_from([0.2, 0.5]),
        st.sampled_from([0, 3, 3, 12]),
        st.sampled_from([0, 0, 2]),
    ),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n_instruments = draw(st.integers(1, 3))
    histories = [
        (
            draw(st.integers(0, 60)),
            draw(st.integers(40, 150)),
            draw(st.one_of(st.none(), st.integers(5, 100))),
        )
        for _ in range(n_instruments)
    ]
    bars_per_session = draw(st.sampled_from([1, 1, 3]))
    split = draw(divisions)
    return Case(
        bars=intraday_table(histories, bars_per_session),
        reach=draw(st.sampled_from(["series", "session"] if bars_per_session > 1 else ["series"])),
        split=split,
        horizon=draw(st.integers(1, 6)),
        shortest=draw(st.integers(1, min(8, bars_per_session) if bars_per_session > 1 else 8)),
        lead=draw(st.sampled_from([0, 1])),
        fold=draw(st.one_of(st.just(n_folds(split) - 1), st.integers(0, n_folds(split) - 1))),
    )


def origins_of(case: Case) -> tuple[Rows, dict[str, np.ndarray]]:
    rows = case.rows
    try:
        return rows, case.origins(rows)
    except Fault:
        assume(False)
        raise


def parts_of(case: Case) -> tuple[list[range], list[int]]:
    """Ranks of the sessions of each split, and the first ranks under embargo; counted out, not computed."""
    n = case.bars["session"].nunique()
    walk = case.split.walk_forward
    if walk is None:
        train, held, _ = case.split.fractions
        edges, first, embargoed = [round(n * train), round(n * (train + held)), n], 0, []
    else:
        size = round(n * walk.initial_train)
        blocks = [size + round((n - size) * j / (walk.n_folds + 1)) for j in range(walk.n_folds + 2)]
        edges = blocks[case.fold : case.fold + 3]
        first = edges[0] - size if walk.scheme == "rolling" else 0
        tested_before = [blocks[k + 2] for k in range(case.fold)]
        embargoed = [end for end in tested_before if end < edges[0]]
    score = edges[0] + round((edges[1] - edges[0]) * case.split.val_select_fraction)
    bounds = [first, edges[0], score, edges[1], edges[2]]
    return [range(a, b) for a, b in pairwise(bounds)], embargoed


def by_definition(case: Case) -> dict[str, list[int]]:
    """The origins of each split, one row at a time."""
    names = case.bars.index.get_level_values("instrument").to_numpy()
    times = case.bars.index.get_level_values("opened_at").to_numpy()
    sessions = case.bars["session"].to_numpy()
    rank = {session: i for i, session in enumerate(sorted(set(sessions)))}
    parts, embargoed = parts_of(case)
    embargo = case.split.walk_forward.embargo if case.split.walk_forward else 0
    found: dict[str, list[int]] = {name: [] for name in SPLITS}

    def joined(row: int) -> bool:
        """Whether a row follows the one before it without a gap."""
        step = times[row] - times[row - 1]
        return names[row] == names[row - 1] and step <= np.timedelta64(MAX_GAP_DAYS, "D")

    def first_row(name: str, begin: int) -> int:
        own = np.flatnonzero(names == name)
        return next((int(row) for row in own if rank[sessions[row]] >= begin), int(own[-1]) + 1)

    firsts = {(name, b): first_row(name, b) for name in set(names) for p in parts for b in (p.start, p.stop)}
    strips = {(name, e): first_row(name, e) for name in set(names) for e in embargoed}
    for t in range(len(names)):
        n_bars = 1
        while n_bars < case.shortest and t >= n_bars and joined(t - n_bars + 1):
            if case.reach == "session" and sessions[t - n_bars] != sessions[t]:
                break
            n_bars += 1
        whole = t + case.horizon < len(names) and all(joined(t + i) for i in range(1, case.horizon + 1))
        if n_bars < case.shortest or not whole:
            continue
        for split, part in zip(SPLITS, parts, strict=True):
            end = firsts[names[t], part.stop] - (0 if split == "test" else case.split.gap)
            if firsts[names[t], part.start] <= t + case.lead and t + case.horizon < end:
                barred = (strips[names[t], e] <= t < strips[names[t], e] + embargo for e in embargoed)
                if split != "train" or not any(barred):
                    found[split].append(t)
    return found


@settings(max_examples=120, deadline=None)
@given(case=cases())
def test_origins_are_those_of_the_definition_and_no_others(case: Case) -> None:
    rows, origins = origins_of(case)
    expected = by_definition(case)
    for split in SPLITS:
        assert origins[split].dtype == np.int64
        assert origins[split].tolist() == expected[split], split
    assert case.faults(origins, rows) == []


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_no_training_label_reaches_a_later_row_and_no_origin_is_in_two_splits(case: Case) -> None:
    rows, origins = origins_of(case)
    everything = np.concatenate(list(origins.values()))
    assert len(np.unique(everything)) == len(everything)
    for earlier, later in pairwise(split for split in SPLITS if len(origins[split])):
        last = rows.sessions[origins[earlier] + case.horizon].max()
        assert last < rows.sessions[origins[later] + case.lead].min()
    for t in everything:
        window = slice(rows.context_starts[t], t + case.horizon + 1)
        assert len(set(rows.instruments[window])) == len(set(rows.segments[window])) == 1
        if case.reach == "session":
            assert len(set(rows.sessions[rows.context_starts[t] : t + 1])) == 1


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_moments_see_training_rows_only(case: Case) -> None:
    rows, origins = origins_of(case)
    fitted = training_rows(rows, origins, **case.division)
    parts, _ = parts_of(case)
    ranks = np.unique(rows.sessions, return_inverse=True)[1]
    assert {ranks[t] for t in fitted} <= set(parts[0])
    expected = [
        t
        for t in range(len(rows))
        if (own := origins["train"][rows.instruments[origins["train"]] == rows.instruments[t]]).size
        and ranks[t] >= parts[0].start
        and t <= own.max() + case.lead * case.horizon
    ]
    assert fitted.tolist() == expected


def simple(lead: int = 0, horizon: int = 3, **split: object) -> tuple[Case, Rows, dict[str, np.ndarray]]:
    bars = intraday_table([(0, 300, None), (40, 260, 130)], 1)
    case = Case(bars, "series", SplitConfig(**split), horizon, shortest=5, lead=lead, fold=0)
    rows = case.rows
    return case, rows, case.origins(rows)


def test_the_checker_catches_a_purge_that_is_one_short() -> None:
    case, rows, origins = simple()
    for name, later in pairwise(SPLITS):
        for instrument in (0, 1):
            own = origins[name][rows.instruments[origins[name]] == instrument]
            spoiled = origins | {name: np.sort(np.r_[origins[name], own[-1] + 1])}
            assert any(
                f"labels of {name} reach" in fault and later in fault for fault in case.faults(spoiled, rows)
            )


def test_the_checker_catches_a_shared_origin() -> None:
    case, rows, origins = simple()
    spoiled = origins | {"test": np.r_[origins["train"][-1], origins["test"]]}
    assert "train and test share origins" in case.faults(spoiled, rows)


def test_the_checker_counts_the_gap() -> None:
    case, rows, origins = simple(gap=3)
    assert case.faults(origins, rows) == []
    assert len(case.faults(origins, rows, split=SplitConfig(gap=4))) == 6  # three pairs, two instruments


def test_the_checker_catches_windows_that_cross_a_gap_or_an_instrument() -> None:
    case, rows, origins = simple()
    first = int(np.flatnonzero(rows.instruments == 1)[0])
    gap = int(np.flatnonzero(np.diff(rows.segments, prepend=0))[-1])
    starts = rows.context_starts.copy()
    for boundary, told in ((first, "cross an instrument"), (gap, "cross a segment")):
        starts[:] = rows.context_starts
        starts[boundary : boundary + 9] = boundary - 1
        spoiled = replace(rows, context_starts=starts)
        assert any(told in fault for fault in case.faults(origins, spoiled)), told
    early = origins | {"train": np.sort(np.r_[origins["train"], gap + 1])}
    assert case.faults(early, rows) == ["train: 1 contexts shorter than allowed"]


def test_the_checker_catches_labels_that_cross_a_gap_or_an_instrument() -> None:
    case, rows, origins = simple()
    last = int(np.flatnonzero(rows.instruments == 0)[-1])
    gap = int(np.flatnonzero(np.diff(rows.segments, prepend=0))[-1])
    found = case.faults(origins | {"test": np.sort(np.r_[origins["test"], last])}, rows)
    assert "test: 1 labels that leave their instrument" in found
    found = case.faults(origins | {"train": np.sort(np.r_[origins["train"], gap - 1])}, rows)
    assert found == ["train: 1 labels that leave their segment"]
    assert "of 560" in case.faults(origins | {"test": np.r_[origins["test"], 559]}, rows)[0]


def test_the_checker_catches_a_label_on_another_instruments_evaluation_day() -> None:
    """Row arithmetic inside the instrument is right; the calendar day is not."""
    case, rows, origins = simple()
    later = rows.instruments[origins["val_select"]] == 1
    spoiled = origins | {"val_select": origins["val_select"][later] - 10}
    found = case.faults(spoiled, rows)
    assert any("labels of train reach 20" in fault for fault in found)


def test_the_checker_catches_a_session_that_is_cut() -> None:
    """The label ends before the first bar of validation, in the same session."""
    case = Case(intraday_table([(0, 200, None)], 3), "series", SplitConfig(), 2, shortest=4, lead=0, fold=0)
    rows = case.rows
    origins = case.origins(rows)
    cut = {
        "train": origins["train"][:-1],
        "val_select": np.r_[origins["val_select"][0] - 1, origins["val_select"]],
    }
    assert any("labels of train reach 20" in fault for fault in case.faults(origins | cut, rows))


def test_the_checker_catches_a_shifted_boundary() -> None:
    case, rows, origins = simple()
    for name in SPLITS:
        moved = origins | {name: origins[name][:-1]}
        assert case.faults(moved, rows) == []
    early = origins | {"val_select": np.r_[origins["val_select"][0] - 1, origins["val_select"]]}
    late = SplitConfig(fractions=(0.72, 0.13, 0.15))
    assert any("val_select spans" in fault for fault in case.faults(early, rows))
    assert any("val_select spans" in fault for fault in case.faults(origins, rows, split=late))


@pytest.mark.parametrize("scheme", ["expanding", "rolling"])
def test_the_checker_catches_a_forgotten_embargo(scheme: str) -> None:
    walk = WalkForward(n_folds=5, scheme=scheme, initial_train=0.5, embargo=4)
    case, rows, _ = simple(walk_forward=walk.model_copy(update={"embargo": 0}))
    without = replace(case, fold=4)
    origins = without.origins(rows)
    assert without.faults(origins, rows) == []
    found = without.faults(origins, rows, split=SplitConfig(walk_forward=walk))
    assert len(found) == 2  # fold 2's test ends where fold 4 begins to validate
    assert found[0].startswith("8 training origins under the embargo after session")


def test_the_checker_catches_the_origins_of_another_fold() -> None:
    case, rows, origins = simple(walk_forward=WalkForward(n_folds=3))
    assert case.faults(origins, rows) == []
    assert case.faults(origins, rows, fold=1) != []


def test_a_forecast_belongs_to_the_split_that_holds_its_rows() -> None:
    case, rows, origins = simple(lead=1)
    sessions = np.unique(rows.sessions)
    for name, boundary in (("val_select", round(0.7 * len(sessions))), ("test", round(0.85 * len(sessions)))):
        for instrument in (0, 1):
            own = origins[name][rows.instruments[origins[name]] == instrument]
            assert rows.sessions[own[0] + 1] == sessions[boundary]
    assert case.faults(origins, rows) == []
    assert case.faults(origins, rows, lead=0) != []


def test_fractions_are_of_the_sessions() -> None:
    case = Case(intraday_table([(0, 1000, None)], 1), "series", SplitConfig(), 2, shortest=60, lead=0, fold=0)
    origins = case.origins(case.rows)
    bounds = {name: (int(rows[0]), int(rows[-1])) for name, rows in origins.items()}
    assert bounds == {
        "train": (59, 697),
        "val_select": (700, 772),
        "val_score": (775, 847),
        "test": (850, 997),
    }


def test_dates_name_the_first_sessions() -> None:
    bars = intraday_table([(0, 200, None)], 3)
    split = SplitConfig(dates=("2010-04-11", "2010-05-21", "2010-06-30"))
    rows = (case := Case(bars, "series", split, 2, shortest=4, lead=0, fold=0)).rows
    origins = case.origins(rows)
    assert rows.dates[origins["val_select"][0]] == np.datetime64("2010-04-11T00")
    assert rows.dates[origins["test"][0]] == np.datetime64("2010-05-21T00")
    assert rows.dates[origins["test"][-1] + 2] == np.datetime64("2010-06-29T02")
    assert rows.dates[origins["train"][-1] + 2] == np.datetime64("2010-04-10T02")


def test_a_split_left_empty_is_a_fault_with_the_counts() -> None:
    case = Case(intraday_table([(0, 300, None)], 1), "series", SplitConfig(), 30, shortest=60, lead=0, fold=0)
    with pytest.raises(Fault) as found:
        case.origins(case.rows)
    told = str(found.value)
    assert "data.split must leave origins in every split, got {'train': 121, 'val_select': 0" in told
    assert "from 300 feature rows, horizon 30, context 60" in told


def test_an_undivided_validation_leaves_nothing_to_score() -> None:
    case, rows, origins = simple(val_select_fraction=1.0)
    assert len(origins["val_score"]) == 0
    assert case.faults(origins, rows) == []
    half = simple()[2]
    assert len(origins["val_select"]) == len(half["val_select"]) + len(half["val_score"]) + 2 * 3
