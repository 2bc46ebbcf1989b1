"""Time on the clock, devices and memory of a sweep, and how they read."""

import io
from typing import Any

import pytest
from rich.console import Console

from finscale.runtime import search_answers
from finscale.runtime.search_answers import print_plan
from finscale.runtime.sweep_cost import SweepCost
from finscale.search.config import SearchConfig
from finscale.search.forecast import Forecast, Span
from finscale.training.config import ExecutionConfig

HOUR = Span(least=1800, expected=3600, most=7200)
CELL = Forecast(
    cell="5K_h1",
    n_grid=18,
    n_trials=20,
    n_left=12,
    n_trainings=3,
    source="8 finished trials",
    epochs=12.5,
    most_epochs=100,
    search=HOUR * 12,
    final=HOUR * 3,
    trial_bytes=3 * 2**30,
    final_bytes=2**30,
)


def cost(*forecasts: Forecast, at_once: int = 1, n_places: int = 1, **hpo: Any) -> SweepCost:
    config = SearchConfig(**hpo)
    return SweepCost(forecasts or (CELL,), at_once, n_places, config, ExecutionConfig(device="cpu"))


def on_gpu(monkeypatch: pytest.MonkeyPatch, found: SweepCost) -> SweepCost:
    monkeypatch.setattr(SweepCost, "device", "cuda")
    return found


def hours(span: Span) -> float:
    return span.expected / 3600


def test_trials_share_the_places_and_trainings_go_in_rounds() -> None:
    assert hours(cost(n_places=1).wall(CELL)) == pytest.approx(15)
    two = cost(n_places=2)
    assert hours(two.search(CELL)) == pytest.approx(6)
    assert hours(two.final(CELL)) == pytest.approx(2)  # three trainings, two rounds
    many = cost(n_places=100)
    assert hours(many.search(CELL)) == pytest.approx(1)  # twelve trials fill twelve places
    assert hours(many.final(CELL)) == pytest.approx(1)


def test_nothing_left_costs_nothing() -> None:
    nothing = Span(least=0, expected=0, most=0)
    done = CELL.model_copy(update={"n_left": 0, "n_trainings": 0, "search": nothing, "final": nothing})
    assert cost(done, n_places=4).total == nothing


def test_cells_at_once_divide_the_time_but_no_cell_is_faster_for_it() -> None:
    small = CELL.model_copy(update={"search": HOUR, "final": HOUR, "n_left": 1, "n_trainings": 1})
    assert hours(cost(CELL, small).total) == pytest.approx(17)
    assert hours(cost(CELL, CELL, at_once=2).total) == pytest.approx(15)
    assert hours(cost(CELL, small, at_once=2).total) == pytest.approx(15)
    assert cost(CELL, CELL, at_once=2).total.most == pytest.approx(2 * 15 * 3600)


def test_gpus_are_those_that_attempts_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cost(n_places=4).n_gpus == 0
    assert on_gpu(monkeypatch, cost(n_places=4)).n_gpus == 1
    assert on_gpu(monkeypatch, cost(n_places=2, n_workers=2, n_processes=2)).n_gpus == 4
    shared = on_gpu(monkeypatch, cost(n_places=8, at_once=2, executor="ray", n_gpus=0.5))
    assert (shared.n_gpus, shared.n_sharing) == (8, 2)
    assert on_gpu(monkeypatch, cost(n_places=4, at_once=2)).n_sharing == 8


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Any:
    console = Console(width=200, record=True, file=io.StringIO())
    monkeypatch.setattr(search_answers, "get_console", lambda: console)
    return console.export_text


def test_a_plan_shows_every_cell_the_totals_and_what_they_rest_on(printed: Any) -> None:
    print_plan(cost(CELL, CELL.model_copy(update={"cell": "20K_h1"}), at_once=2, n_places=2))
    text = printed()
    shown = (
        *("5K_h1", "20K_h1", "18", "12 of 20", "8 finished trials; 12.5 epochs"),
        "6 h (3 to 12)",
        "2 h (1 to 4)",
        "3.0 GiB / 1.0 GiB",
        "In all 24 trials and 6 final trainings, 2 cells x 2 = 4 at once: 8 h (4 to 16)",
        "4 share a device: 12.0 GiB at most",
        "an upper bound",
        "not to slow each other",
    )
    assert [part for part in shown if part not in text] == []
    assert "GPU" not in text


def test_a_plan_for_gpus_counts_hours_times_devices(monkeypatch: pytest.MonkeyPatch, printed: Any) -> None:
    print_plan(on_gpu(monkeypatch, cost(n_places=4, executor="ray", n_gpus=1)))
    text = printed()
    assert "4 GPUs: 16 h (8 to 32) of GPU time" in text
    assert "nodes of the cluster are taken to be as fast as this machine" in text
    assert "have a device each" in text


@pytest.mark.parametrize(("seconds", "shown"), [(5400, "1.5 h"), (90, "1.5 min"), (0.25, "0.25 s")])
def test_time_is_told_in_the_unit_of_its_size(seconds: float, shown: str, printed: Any) -> None:
    span = Span(least=seconds, expected=seconds, most=seconds)
    print_plan(cost(CELL.model_copy(update={"search": span, "n_left": 1})))
    assert shown in printed()
