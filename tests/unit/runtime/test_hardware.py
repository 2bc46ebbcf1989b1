"""A GPU that runs hot pauses and stops training; what cannot be read is unknown and does neither."""

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from finscale.core.errors import Interrupted
from finscale.datasets.results import append_rows
from finscale.runtime.hardware import HYSTERESIS_C, LOG_COLUMNS, LOOK_EVERY_S, PAUSE_S, Hardware, State, judge
from finscale.runtime.sensors import Reading
from finscale.runtime.stopping import Stopper
from finscale.search.executors import once_resumed
from finscale.training.config import ExecutionConfig

LIMITS = (70.0, 85.0, 95.0)


class Machine:
    """Planted readings and a planted clock."""

    def __init__(self) -> None:
        self.reading, self.now, self.n_reads = Reading(), 1000.0, 0

    def __call__(self) -> Reading:
        self.n_reads += 1
        return self.reading

    def at(self, temperature_c: float | None) -> None:
        self.reading = Reading(cpu_percent=50.0, memory_percent=40.0, temperature_c=temperature_c)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def hardware(machine, tmp_path) -> Iterator[Hardware]:
    """A watch that looks only when it is told to: its thread has ended after one look."""
    found = Hardware(machine, clock=lambda: machine.now)
    found.watch(ExecutionConfig(), tmp_path / "hardware.csv")
    while not machine.n_reads:
        time.sleep(0.001)
    found._ended.set()
    assert found._thread is not None
    found._thread.join()
    yield found
    found.rest()


def seen(hardware: Hardware, machine: Machine, temperatures: list[float | None]) -> list[State]:
    states = []
    for temperature in temperatures:
        machine.at(temperature)
        hardware.look()
        states.append(hardware.state)
    return states


@pytest.mark.parametrize(
    ("temperature", "state"),
    [
        *((20, "normal"), (69.9, "normal"), (70, "acceptable"), (84.9, "acceptable")),
        *((85, "pause"), (94.9, "pause"), (95, "stop"), (110, "stop"), (None, "unknown")),
    ],
)
def test_a_temperature_is_judged_by_the_three_limits(temperature, state):
    assert judge(temperature, before="unknown", limits=LIMITS) == state


def test_a_state_is_entered_at_its_limit_and_left_three_degrees_below(hardware, machine):
    assert HYSTERESIS_C == 3
    rising_and_falling = [84, 85, 84, 82, 81.9, 70, 67, 66.9, 70]
    states = ["acceptable", "pause", "pause", "pause", "acceptable", "acceptable", "acceptable", "normal"]
    assert seen(hardware, machine, rising_and_falling) == [*states, "acceptable"]
    assert seen(hardware, machine, [96, 93, 50]) == ["stop", "stop", "normal"]


def test_an_unreadable_temperature_is_unknown_and_neither_pauses_nor_stops(hardware, machine):
    assert hardware.state == "unknown"
    assert seen(hardware, machine, [None, 60, None]) == ["unknown", "normal", "unknown"]
    assert not hardware.must_pause
    assert not hardware.must_stop


def test_sensors_that_raise_are_unknown(tmp_path):
    def broken() -> Reading:
        raise RuntimeError("driver mismatch")

    hardware = Hardware(broken)
    hardware.look()
    assert hardware.state == "unknown"


def test_a_pause_lasts_sixty_seconds_and_is_repeated_until_the_device_has_cooled(hardware, machine, caplog):
    seen(hardware, machine, [86])
    for _ in range(30):
        machine.now += LOOK_EVERY_S
        assert hardware.must_pause
        hardware.look()
    assert sum("training pauses" in record.message for record in caplog.records) > 5
    seen(hardware, machine, [60])
    machine.now += PAUSE_S - LOOK_EVERY_S - 0.1
    assert "cooled to 60 C" in caplog.text
    machine.now += LOOK_EVERY_S + 0.1
    assert not hardware.must_pause


def test_a_watch_that_hangs_pauses_no_longer_than_sixty_seconds(hardware, machine):
    seen(hardware, machine, [90])
    machine.now += PAUSE_S
    assert not hardware.must_pause


def test_training_waits_out_a_pause_inside_should_stop(hardware, machine, monkeypatch):
    waited = []

    def cool_down(seconds: float) -> None:
        waited.append(seconds)
        machine.now += 10.0
        seen(hardware, machine, [88 if len(waited) < 12 else 50])

    stopper = Stopper(hardware)
    ask = once_resumed(stopper.requested, stopper.should_pause)
    seen(hardware, machine, [88])
    monkeypatch.setattr("finscale.search.executors.time.sleep", cool_down)
    assert ask() is False
    assert 12 <= len(waited) <= 12 + PAUSE_S / 10
    waited.clear()
    assert ask() is False
    assert waited == []


def test_at_the_last_limit_the_command_stops_like_a_stop_file_and_stays_stopped(hardware, machine, caplog):
    stopper = Stopper(hardware)
    with stopper.listening():
        assert not stopper.requested()
        seen(hardware, machine, [97])
        assert stopper.requested()
        assert stopper.exit_code == 0
        assert "97 C (limit 95): training stops with a checkpoint" in caplog.text
        hardware.rest()
        with pytest.raises(Interrupted, match="saved"):
            stopper.raise_if_requested("saved")
    with stopper.listening():
        assert not stopper.requested()


def test_a_paused_training_that_gets_too_hot_stops_instead_of_waiting(hardware, machine):
    stopper = Stopper(hardware)
    seen(hardware, machine, [90, 96])
    assert hardware.must_pause
    assert once_resumed(stopper.requested, stopper.should_pause)() is True


@pytest.mark.parametrize("limits", [(85, 70, 95), (70, 70, 95), (0, 85, 95), (70, 85, 300), (70, 85)])
def test_limits_that_do_not_rise_are_refused(limits):
    with pytest.raises(ValueError, match="temperature_limits_c"):
        ExecutionConfig.read({"temperature_limits_c": limits}, subject="execution")


def test_the_log_has_a_row_every_300_seconds_of_mean_loads_and_highest_temperature(
    hardware, machine, tmp_path
):
    hardware.flush()
    for temperature, cpu in [(60, 0.0), (66, 100.0), (62, 20.0)]:
        machine.reading = Reading(cpu_percent=cpu, memory_percent=30.0, temperature_c=temperature)
        hardware.look()
        machine.now += 100
    hardware.look()
    first_known, row = pd.read_csv(tmp_path / "hardware.csv").to_dict("records")[-2:]
    assert first_known["state"] == "normal"
    assert (row["cpu_percent"], row["temperature_c"], row["state"]) == ("46.7", "66.0", "normal")
    machine.now += 299
    hardware.look()
    assert len(pd.read_csv(tmp_path / "hardware.csv")) == 3


def test_what_no_sensor_tells_is_written_as_unknown(hardware, tmp_path):
    hardware.look()
    hardware.flush()
    (row, *_) = pd.read_csv(tmp_path / "hardware.csv").to_dict("records")
    assert tuple(row) == LOG_COLUMNS
    assert {row[name] for name in LOG_COLUMNS[2:]} == {"unknown"}


def test_a_log_that_cannot_be_written_does_not_end_the_watch(machine, tmp_path, caplog):
    (tmp_path / "taken").touch()
    hardware = Hardware(machine)
    hardware.watch(ExecutionConfig(), tmp_path / "taken" / "hardware.csv")
    hardware.rest()
    hardware.look()
    hardware.flush()
    assert "lacks a row" in caplog.text


@pytest.fixture
def far_from_utc(monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
def test_the_hottest_of_a_run_is_that_of_the_periods_that_touch_it(hardware, tmp_path):
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    at = [noon + timedelta(minutes=5 * k) for k in range(6)]
    said = [50, 75, "unknown", 60, 71]
    periods = zip(at[:-1], at[1:], said, strict=True)
    rows = [{"since": since, "until": until, "temperature_c": c} for since, until, c in periods]
    append_rows(tmp_path / "hardware.csv", rows, columns=LOG_COLUMNS)
    minute = timedelta(minutes=1)
    spans = [(at[2] + minute, at[3] + minute), (at[0], at[5]), (at[2] + minute, at[2] + 2 * minute)]
    runs = pd.DataFrame(spans, columns=["started_at", "finished_at"])
    assert hardware.hottest(runs).fillna(-1).tolist() == [60.0, 75.0, -1]
    local = runs.map(lambda instant: instant.to_pydatetime().astimezone().replace(tzinfo=None))
    assert hardware.hottest(local).fillna(-1).tolist() == [60.0, 75.0, -1]


def test_the_hottest_of_a_run_that_nothing_watched_is_unknown(hardware, machine, tmp_path):
    seen(hardware, machine, [80])
    old = datetime(2001, 1, 1, tzinfo=UTC)
    runs = pd.DataFrame({"started_at": [old, None], "finished_at": [old, old]})
    assert hardware.hottest(runs).isna().all()
    assert Hardware(machine).hottest(runs).isna().all()
    (tmp_path / "hardware.csv").write_text("")
    hardware._readings.clear()
    assert hardware.hottest(runs).isna().all()


def test_a_hot_machine_is_known_to_be_hot_before_work_begins(machine, tmp_path):
    machine.at(90)
    hardware = Hardware(lambda: time.sleep(0.2) or machine())
    hardware.watch(ExecutionConfig(), tmp_path / "hardware.csv")
    assert hardware.must_pause
    hardware.rest()


def test_sensors_that_hang_do_not_hold_a_command_up(machine, tmp_path, monkeypatch):
    monkeypatch.setattr("finscale.runtime.hardware._PATIENCE_S", 0.05)
    answer = threading.Event()
    hardware = Hardware(lambda: answer.wait(60) and machine())
    started = time.monotonic()
    hardware.watch(ExecutionConfig(), tmp_path / "hardware.csv")
    assert time.monotonic() - started < 10
    assert hardware.state == "unknown"
    answer.set()
    hardware.rest()


def test_the_watch_looks_in_a_thread_of_its_own_and_ends_with_the_command(machine, tmp_path, monkeypatch):
    monkeypatch.setattr("finscale.runtime.hardware.LOOK_EVERY_S", 0.01)
    hardware = Hardware(machine)
    machine.at(60)
    hardware.watch(ExecutionConfig(), tmp_path / "hardware.csv")
    give_up_at = time.monotonic() + 10
    while machine.n_reads < 3 and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert hardware.state == "normal"
    hardware.rest()
    n_reads = machine.n_reads
    time.sleep(0.05)
    assert machine.n_reads == n_reads >= 3
    assert logging.getLogger("finscale.runtime.hardware").isEnabledFor(logging.WARNING)
    assert (tmp_path / "hardware.csv").exists()
