"""Cells at once share what there is: the cores of a machine, the room of a cluster."""

from typing import Any

import pytest

from finscale.core.errors import Fault
from finscale.runtime import places
from finscale.runtime.matrix import _n_at_once, _shared_out
from finscale.runtime.places import places_per_cell
from finscale.search.config import SearchConfig


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "n_cores", lambda: 4)


def test_more_attempts_than_cores_are_refused_with_both_numbers_and_what_would_fit() -> None:
    assert places_per_cell(SearchConfig(n_workers=2), at_once=2) == 2
    with pytest.raises(Fault) as refused:
        places_per_cell(SearchConfig(n_workers=3), at_once=2)
    assert str(refused.value) == (
        "sweep.at_once x hpo.n_workers must be at most the 4 cores of this machine, got 2 x 3 = 6; "
        "try hpo.n_workers=2 or --at-once 1"
    )


def test_one_cell_alone_may_take_more_workers_than_cores_as_ever() -> None:
    assert places_per_cell(SearchConfig(n_workers=9), at_once=1) == 9


@pytest.mark.parametrize(("room", "share"), [(9, 3), (8, 2), (2, 1)])
def test_cells_share_the_room_of_a_cluster_and_each_has_some(
    room: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_connected", lambda hpo, leave: room)
    hpo = SearchConfig(executor="ray")
    assert places_per_cell(hpo, at_once=3) == share
    shared = _shared_out({"hpo": {"n_gpus": 1}, "seed": 3}, hpo, 3)
    assert shared == {"hpo": {"n_gpus": 1, "n_workers": share}, "seed": 3}


def test_cells_beside_each_other_on_no_named_cluster_share_one_with_room_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(places, "_connected", lambda hpo, leave: asked.append((hpo.n_workers, leave)) or 6)
    assert places_per_cell(SearchConfig(executor="ray", n_workers=3), at_once=2) == 3
    assert asked == [(6, False)]


def test_on_one_machine_a_cell_is_asked_for_what_was_typed() -> None:
    typed = {"hpo": {"n_trials": 3}}
    assert _shared_out(typed, SearchConfig(n_workers=1), 2) is typed


def test_no_more_cells_run_at_once_than_there_are_and_questions_are_answered_in_order() -> None:
    assert _n_at_once(SearchConfig(), 8, n_cells=3) == 3
    assert _n_at_once(SearchConfig(dry_run=True), 8, n_cells=3) == 1
    assert _n_at_once(SearchConfig(verify=True), 8, n_cells=3) == 1


def test_cells_that_learn_from_smaller_ones_do_not_run_beside_them() -> None:
    with pytest.raises(Fault, match=r"sweep\.at_once must be 1 where hpo\.transfer is true"):
        _n_at_once(SearchConfig(transfer=True), 2, n_cells=3)
    assert _n_at_once(SearchConfig(transfer=True), 1, n_cells=3) == 1
