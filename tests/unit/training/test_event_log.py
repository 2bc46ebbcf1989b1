import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from finscale.search.finals import train_final
from finscale.search.objective import train_trial
from finscale.training.__main__ import main
from finscale.training.config import ExecutionConfig
from finscale.training.event_log import logged, read_events
from finscale.training.events import CheckpointSaved, Event, Resumed, ignore
from finscale.training.loop import never
from finscale.training.result import TrainingResult
from finscale.training.run_spec import RunSpec, write_run_spec
from finscale.training.winner import train_seed
from finscale.windows.data import WindowData, save_windows

Specs = Callable[..., RunSpec]
Windows = Callable[..., WindowData]
Trains = Callable[..., TrainingResult]

SAVED = CheckpointSaved(path="checkpoints/a", step=1)


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def _kinds(folder: Path) -> list[str]:
    return [line["event"] for line in _lines(folder)]


def test_a_line_holds_every_number_of_its_event_and_the_listener_hears_it_too(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data, heard = make_data(), list[Event]()
    train_tiny(make_spec(data), data, on_event=logged(tmp_path / "run", heard.append))
    lines = _lines(tmp_path / "run")
    told = [{key: value for key, value in line.items() if key not in ("at", "event")} for line in lines]
    assert told == [asdict(event) for event in heard]
    assert _kinds(tmp_path / "run") == [type(event).__name__ for event in heard]
    assert {"Started", "EpochEnd", "CheckpointSaved", "Finished"} <= set(_kinds(tmp_path / "run"))
    instants = [datetime.fromisoformat(line["at"]) for line in lines]
    assert instants == sorted(instants)
    assert datetime.now(UTC) - instants[0] < timedelta(minutes=5)


def test_a_line_is_on_disk_before_the_next_event(tmp_path: Path) -> None:
    seen = list[int]()
    listen = logged(tmp_path, lambda event: seen.append(len(_lines(tmp_path))))
    for _ in range(3):
        listen(SAVED)
    assert seen == [1, 2, 3]


def test_a_resumed_run_goes_on_in_the_same_file(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data, polls = make_data(), iter(range(100))
    spec, listen = make_spec(data), logged(tmp_path / "run", ignore)
    train_tiny(spec, data, on_event=listen, should_stop=lambda: next(polls) >= 8)
    begun = _lines(tmp_path / "run")
    train_tiny(spec, data, on_event=listen)
    lines = _lines(tmp_path / "run")
    assert lines[: len(begun)] == begun
    assert "Resumed" not in [line["event"] for line in begun]
    assert [line["step"] for line in lines if line["event"] == "Resumed"] == [8]
    assert [line["epoch"] for line in lines if line["event"] == "EpochEnd"] == [1, 2, 3]


@pytest.mark.parametrize("whole", [0, 1, 5])
@pytest.mark.parametrize("torn", [b"{", '{"event": "Ché'.encode()[:-1]])
def test_a_line_that_a_kill_cut_short_spoils_no_other(tmp_path: Path, whole: int, torn: bytes) -> None:
    for _ in range(whole):
        logged(tmp_path, ignore)(SAVED)
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(torn)
    for _ in range(2):
        logged(tmp_path, ignore)(Resumed(path="a", step=2, epochs_done=1))
    assert _kinds(tmp_path) == ["CheckpointSaved"] * whole + ["Resumed"] * 2


def test_events_are_read_back_up_to_where_a_kill_cut_them_short(tmp_path: Path) -> None:
    assert list(read_events(tmp_path)) == []
    for _ in range(2):
        logged(tmp_path, ignore)(SAVED)
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write('{"event": "Ché'.encode()[:-1])
    assert [said["event"] for said in read_events(tmp_path)] == ["CheckpointSaved"] * 2


def _trial(spec: RunSpec, windows: Path, folder: Path) -> None:
    train_trial(_payload(spec, windows), folder, should_stop=never, report=lambda values: None)


def _final(spec: RunSpec, windows: Path, folder: Path) -> None:
    train_final(_payload(spec, windows), folder, should_stop=never, report=lambda values: None)


def _payload(spec: RunSpec, windows: Path) -> dict[str, Any]:
    values = spec.model_dump(mode="json")
    return {"spec": values, "batch": values["batch"], "windows": str(windows), "execution": {"device": "cpu"}}


def _command(spec: RunSpec, windows: Path, folder: Path) -> None:
    write_run_spec(folder.with_suffix(".yaml"), spec)
    words = [folder.with_suffix(".yaml"), windows, folder, "strategy=one", "device=cpu"]
    assert main([str(word) for word in words]) == 0


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's signal handlers are not for the process that tests."""
    monkeypatch.setattr("finscale.training.__main__.signal.signal", lambda number, handler: None)


@pytest.mark.parametrize("train", [_trial, _final, _command])
@pytest.mark.usefixtures("alone")
def test_trials_seeds_and_the_command_keep_a_log(
    train: Callable[[RunSpec, Path, Path], None], make_data: Windows, make_spec: Specs, tmp_path: Path
) -> None:
    data = make_data()
    save_windows(tmp_path / "windows", data)
    train(make_spec(data, epochs=1), tmp_path / "windows", tmp_path / "run")
    assert _kinds(tmp_path / "run")[0] == "Started"
    assert _kinds(tmp_path / "run")[-1] == "Finished"
    assert _kinds(tmp_path / "run").count("EpochEnd") == 1


def test_a_seed_keeps_a_log_beside_its_listener(make_data: Windows, make_spec: Specs, tmp_path: Path) -> None:
    data, heard = make_data(), list[Event]()
    train_seed(
        make_spec(data, epochs=1),
        data,
        directory=tmp_path / "run",
        execution=ExecutionConfig(device="cpu"),
        on_event=heard.append,
        should_stop=never,
    )
    assert _kinds(tmp_path / "run") == [type(event).__name__ for event in heard]
    assert _kinds(tmp_path / "run")[-1] == "Finished"
