"""Timed steps are real ones, warm, in the run's own batches, and leave nothing behind."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from finscale.training import step_times
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import RunSpec
from finscale.training.step_times import time_steps
from finscale.windows.data import WindowData

EXECUTION = ExecutionConfig(device="cpu")


class Clock:
    """Moves on when a step or a validation is made, and not otherwise; the first of them are slow."""

    def __init__(self) -> None:
        self.now, self.sizes = 0.0, list[int]()

    def spend(self, n_windows: int, seconds: float) -> None:
        self.sizes.append(n_windows)
        self.now += seconds + (0.1 if len(self.sizes) <= 5 else 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    told = Clock()

    class SlowStepper(step_times.Stepper):
        def __init__(self, *arguments: Any, **given: Any) -> None:
            super().__init__(*arguments, **given)
            told.now += 0.25

        def update(self, origins: torch.Tensor) -> torch.Tensor:
            told.spend(len(origins), 0.04)
            return super().update(origins)

    monkeypatch.setattr(step_times, "Stepper", SlowStepper)
    monkeypatch.setattr(step_times.time, "perf_counter", lambda: told.now)
    return told


def test_seconds_are_per_window_of_warm_whole_steps(
    clock: Clock, make_data: Callable[..., WindowData], make_spec: Callable[..., RunSpec]
) -> None:
    data = make_data()
    spec = make_spec(data, epochs=1)
    found = time_steps(spec, data, EXECUTION)
    assert found.window_s == pytest.approx(0.04 / 32)
    assert found.start_s == pytest.approx(0.25)
    assert set(clock.sizes) == {32}
    assert len(clock.sizes) == 25
    # more steps than the schedule has: the rate is that of its beginning throughout
    assert len(clock.sizes) > len(data.origins["train"]) // 32


def test_a_slow_model_is_given_few_steps(
    clock: Clock,
    make_data: Callable[..., WindowData],
    make_spec: Callable[..., RunSpec],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make_data()
    monkeypatch.setattr(step_times, "_ENOUGH_S", 0.01)
    found = time_steps(make_spec(data), data, EXECUTION)
    assert len(clock.sizes) == 2
    assert found.window_s > 0


def test_windows_too_few_for_a_step_are_timed_as_they_are(
    clock: Clock, make_data: Callable[..., WindowData], make_spec: Callable[..., RunSpec]
) -> None:
    data = make_data(40)
    n_train = len(data.origins["train"])
    assert n_train < 32
    found = time_steps(make_spec(data), data, EXECUTION)
    assert set(clock.sizes) == {n_train}
    assert found.window_s == pytest.approx(0.04 / n_train)


def test_random_numbers_and_threads_are_as_before(
    make_data: Callable[..., WindowData], make_spec: Callable[..., RunSpec]
) -> None:
    data, before = make_data(), torch.random.get_rng_state()
    found = time_steps(make_spec(data), data, EXECUTION)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert min(found) > 0
