"""One contract for every executor; then what only attempts with processes of their own can show."""

import dataclasses
import functools
import itertools
import json
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from search_toys import FUNCTION
from toy_trials import is_alive, wait_until

from finscale.search import groups
from finscale.search.attempts import Job
from finscale.search.executors import Executor, Finished, InlineExecutor
from finscale.search.processes import ProcessExecutor

Reports = list[tuple[int, Mapping[str, Any]]]


@pytest.fixture
def reports() -> Reports:
    return []


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toys that look on never notice that their leader has died."""
    monkeypatch.setattr(groups, "_GRACE_S", 0.3)


def a_ray_executor(**settings: Any) -> Executor:
    from finscale.runtime.ray_executor import RayExecutor

    return RayExecutor(n_slots=2, n_gpus=0, **settings)


MADE: dict[str, Callable[..., Executor]] = {
    "inline": functools.partial(InlineExecutor, should_stop=lambda: False),
    "process": functools.partial(ProcessExecutor, n_slots=2),
    "two processes": functools.partial(ProcessExecutor, n_slots=2, n_processes=2),
    "ray": a_ray_executor,
    "two on ray": functools.partial(a_ray_executor, n_processes=2),
}
APART = [name for name in MADE if name != "inline"]
GROUPS = [name for name in MADE if "two" in name]


@pytest.fixture(params=MADE)
def kind(request: pytest.FixtureRequest) -> str:
    return _started(request)


def _started(request: pytest.FixtureRequest) -> str:
    if "ray" in request.param:
        request.getfixturevalue("ray_cluster")
    return request.param


@pytest.fixture
def executor(kind: str, reports: Reports) -> Iterator[Executor]:
    with MADE[kind](on_report=lambda number, values: reports.append((number, values))) as hands:
        yield hands


@pytest.fixture(params=APART)
def apart(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """An executor whose attempts have processes of their own."""
    with MADE[_started(request)](on_report=lambda number, values: None) as hands:
        yield hands


@pytest.fixture(params=GROUPS)
def together(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """An executor whose attempts have two processes each."""
    with MADE[_started(request)](on_report=lambda number, values: None) as hands:
        yield hands


@pytest.fixture
def processes() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(n_slots=2, on_report=lambda number, values: None) as hands:
        yield hands


def a_job(directory: Path, *, number: int = 0, function: str = FUNCTION, **payload: Any) -> Job:
    batch = {"micro_batch_size": 128, "accumulation_steps": 1, "effective_batch_size": 128}
    usual = {"batch": batch, "epochs": 2, "seconds_per_epoch": 0.0, "value": 0.5}
    return Job(number, f"identity {number}", function, {**usual, **payload}, directory / str(number))


def run(executor: Executor, *jobs: Job, cancel: bool = False) -> dict[int, Finished]:
    for job in jobs:
        executor.submit(job)
    if cancel:
        executor.cancel(jobs[0].number)
    ended: dict[int, Finished] = {}
    give_up_at = time.monotonic() + 120
    while len(ended) < len(jobs) and time.monotonic() < give_up_at:
        ended |= {finished.number: finished for finished in executor.poll(0.2)}
    return ended


def test_an_attempt_ends_with_its_value_and_metrics(executor: Executor, tmp_path: Path) -> None:
    finished = run(executor, a_job(tmp_path, value=0.25))[0]
    assert (finished.outcome.outcome, finished.outcome.value) == ("complete", 0.25)
    assert finished.outcome.metrics == {"stopped_epoch": 2}
    assert finished.seconds >= 0


def test_reports_arrive_in_order_under_their_number(
    executor: Executor, reports: Reports, tmp_path: Path
) -> None:
    run(executor, a_job(tmp_path, number=7, epochs=3))
    assert [(number, values["epoch"]) for number, values in reports] == [(7, 1), (7, 2), (7, 3)]


def test_a_pause_holds_a_running_attempt_until_it_ends(kind: str, tmp_path: Path) -> None:
    epochs: list[float] = []
    pause_ends = [0.0]

    def on_report(number: int, values: Mapping[str, Any]) -> None:
        epochs.append(time.monotonic())
        if values["epoch"] == 2:
            pause_ends[0] = time.monotonic() + 1.5

    def should_pause() -> bool:
        return time.monotonic() < pause_ends[0]

    with MADE[kind](on_report=on_report, should_pause=should_pause) as executor:
        ended = run(executor, a_job(tmp_path, epochs=20, seconds_per_epoch=0.1))
    assert ended[0].outcome.outcome == "complete"
    assert len(epochs) == 20
    assert max(after - before for before, after in itertools.pairwise(epochs)) > 1.0


def test_an_attempt_that_begins_in_a_pause_waits_and_a_paused_one_can_be_stopped(tmp_path: Path) -> None:
    reports: Reports = []
    with ProcessExecutor(
        n_slots=2,
        on_report=lambda number, values: reports.append((number, values)),
        should_pause=lambda: True,
    ) as executor:
        assert executor.poll(0.0) == []
        executor.submit(a_job(tmp_path, epochs=3))
        give_up_at = time.monotonic() + 1.5
        while time.monotonic() < give_up_at:
            assert executor.poll(0.1) == []
        assert reports == []
        executor.cancel(0)
        ended: list[Finished] = []
        give_up_at = time.monotonic() + 120
        while not ended and time.monotonic() < give_up_at:
            ended = executor.poll(0.2)
    assert [finished.outcome.outcome for finished in ended] == ["stopped"]


def test_several_attempts_all_end(executor: Executor, tmp_path: Path) -> None:
    ended = run(executor, *(a_job(tmp_path, number=k, value=float(k)) for k in range(3)))
    assert {number: finished.outcome.value for number, finished in ended.items()} == {0: 0.0, 1: 1.0, 2: 2.0}


def test_an_exception_is_a_failure_with_its_traceback_on_disk(executor: Executor, tmp_path: Path) -> None:
    outcome = run(executor, a_job(tmp_path, behaviour="raise"))[0].outcome
    assert (outcome.outcome, outcome.reason) == ("failed", "RuntimeError: the toy broke")
    assert "misbehave" in (tmp_path / "0" / "failure.txt").read_text()


def test_a_function_that_cannot_be_imported_is_a_failure(executor: Executor, tmp_path: Path) -> None:
    outcome = run(executor, a_job(tmp_path, function="toy_trials:absent"))[0].outcome
    assert outcome.outcome == "failed"
    assert "module:function" in outcome.reason


def test_a_memory_error_is_an_oom(executor: Executor, tmp_path: Path) -> None:
    assert run(executor, a_job(tmp_path, behaviour="oom above 64"))[0].outcome.outcome == "oom"


def test_a_loss_that_is_not_finite_has_diverged(executor: Executor, tmp_path: Path) -> None:
    assert run(executor, a_job(tmp_path, value=float("inf")))[0].outcome.outcome == "diverged"


def test_a_cancelled_attempt_stops_and_the_next_one_goes_on(executor: Executor, tmp_path: Path) -> None:
    job = a_job(tmp_path, epochs=2000, seconds_per_epoch=0.01)
    ended = run(executor, job, cancel=True)[0].outcome
    assert (ended.outcome, ended.reason) == ("stopped", "")
    # on a cluster it may have been stopped before it began
    (tmp_path / "0").mkdir(exist_ok=True)
    (tmp_path / "0" / "epoch").write_text("1999")
    ended = run(executor, job)[0].outcome
    assert (ended.outcome, ended.reason) == ("complete", "")


def test_a_final_outcome_on_disk_is_not_trained_again(executor: Executor, tmp_path: Path) -> None:
    job = a_job(tmp_path)
    outcomes = [run(executor, job)[0].outcome for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    assert len((tmp_path / "0" / "attempts").read_text().splitlines()) == 1


def test_an_outcome_of_another_trial_or_a_broken_one_is_not_believed(
    executor: Executor, tmp_path: Path
) -> None:
    job = a_job(tmp_path, value=0.25)
    run(executor, job)
    other = dataclasses.replace(job, identity="another", payload={**job.payload, "value": 0.75})
    assert run(executor, other)[0].outcome.value == 0.75
    (tmp_path / "0" / "outcome.json").write_text('{"identity": "another", "outc')
    assert run(executor, other)[0].outcome.value == 0.75
    assert len((tmp_path / "0" / "attempts").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("behaviour", "outcome", "reason"),
    [
        ("kill SIGKILL", "oom", "signal 9 (SIGKILL)"),
        ("kill SIGSEGV", "failed", "signal 11 (SIGSEGV)"),
        ("leave", "failed", "code 3 and no outcome"),
    ],
)
def test_a_child_that_dies_is_typed(
    apart: Executor, tmp_path: Path, behaviour: str, outcome: str, reason: str
) -> None:
    found = run(apart, a_job(tmp_path, behaviour=behaviour), a_job(tmp_path, number=1))
    assert (found[0].outcome.outcome, found[1].outcome.outcome) == (outcome, "complete")
    assert reason in found[0].outcome.reason


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_child_leaves_signals_to_its_driver(apart: Executor, tmp_path: Path, name: str) -> None:
    assert run(apart, a_job(tmp_path, behaviour=f"kill {name}"))[0].outcome.outcome == "complete"


def test_every_attempt_has_a_process_of_its_own(apart: Executor, tmp_path: Path) -> None:
    run(apart, a_job(tmp_path), a_job(tmp_path, number=1))
    pids = {(tmp_path / str(number) / "attempts").read_text().split()[0] for number in (0, 1)}
    assert len(pids | {str(os.getpid())}) == 3


def test_a_child_runs_one_quiet_thread(apart: Executor, tmp_path: Path) -> None:
    found = run(apart, a_job(tmp_path, function="toy_trials:environment_trial"))[0].outcome
    assert found.metrics == {"threads": 1, "wait_policy": "PASSIVE"}


def test_a_child_does_not_import_the_command_line(
    processes: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, marker = tmp_path / "command.py", tmp_path / "imported"
    script.write_text(f"open({str(marker)!r}, 'w').close()")
    command = types.ModuleType("__main__")
    command.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", command)
    assert run(processes, a_job(tmp_path))[0].outcome.outcome == "complete"
    assert sys.modules["__main__"] is command
    assert not marker.exists()


@pytest.mark.parametrize("n_processes", [1, 2])
def test_closing_ends_what_still_runs(tmp_path: Path, n_processes: int) -> None:
    with ProcessExecutor(n_slots=1, n_processes=n_processes, on_report=lambda number, values: None) as hands:
        hands.submit(a_job(tmp_path, epochs=2000, seconds_per_epoch=0.05))
        children = [child.process for child in hands._attempts[0].children]
        for child in children:
            assert child.pid is not None
            os.kill(child.pid, 0)
    assert [child.exitcode for child in children] == [-signal.SIGKILL] * n_processes


# -- attempts of several processes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "outcome", "reason"),
    [
        ("kill SIGKILL", "oom", "signal 9 (SIGKILL)"),
        ("raise", "failed", "RuntimeError: the toy broke"),
        ("leave", "failed", "code 3 and no outcome"),
    ],
)
def test_one_process_that_ends_badly_ends_its_attempt_and_no_other(
    together: Executor, tmp_path: Path, behaviour: str, outcome: str, reason: str
) -> None:
    long = {"epochs": 2000, "seconds_per_epoch": 0.05}
    doomed = a_job(tmp_path, behaviour=behaviour, culprit=1, **long)
    found = run(together, doomed, a_job(tmp_path, number=1))
    assert (found[0].outcome.outcome, found[1].outcome.outcome) == (outcome, "complete")
    assert reason in found[0].outcome.reason
    # on a slow cluster the leader may have been ended before it began
    began = tmp_path / "0" / "attempts"
    leaders = [int(line.split()[0]) for line in began.read_text().splitlines()] if began.exists() else []
    wait_until(lambda: not any(map(is_alive, leaders)), seconds=10)
    # its room is free again, and nothing that it left behind is believed
    again = a_job(tmp_path, epochs=2)
    assert run(together, again, a_job(tmp_path, number=2))[0].outcome.outcome == "complete"


def test_every_process_hears_the_stop(
    together: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_GRACE_S", 60.0)
    job = a_job(tmp_path, epochs=2000, seconds_per_epoch=0.05)
    together.submit(job)
    wait_until(lambda: together.poll(0.1) == [] and (tmp_path / "0" / "onlooker").exists())
    together.cancel(0)
    heard: list[str] = []

    def has_ended() -> bool:
        heard.extend(finished.outcome.outcome for finished in together.poll(0.2))
        return bool(heard)

    wait_until(has_ended, seconds=20)
    assert heard == ["stopped"]


def test_the_leader_alone_reports_and_each_knows_its_place(
    kind: str, reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # these processes do not wait for each other, and one of a cluster may begin late
    monkeypatch.setattr(groups, "_GRACE_S", 60.0)
    hands = MADE[kind](on_report=lambda number, values: reports.append((number, values)))
    with hands:
        jobs = [a_job(tmp_path, number=k, function="toy_trials:ranked_trial") for k in (0, 1)]
        run(hands, *jobs)
    n_processes = 2 if kind in GROUPS else 1
    for job in jobs:
        found = [json.loads(path.read_text()) for path in sorted(job.directory.glob("rank_*"))]
        assert [place.get("RANK", "0") for place in found] == [str(rank) for rank in range(n_processes)]
        if n_processes > 1:
            assert {place["WORLD_SIZE"] for place in found} == {"2"}
            assert len({(place["MASTER_ADDR"], place["MASTER_PORT"]) for place in found}) == 1
    assert sorted(number for number, _ in reports) == [0, 1]
    assert "RANK" not in os.environ


def test_attempts_side_by_side_on_one_machine_share_no_device(tmp_path: Path) -> None:
    jobs = [
        a_job(tmp_path, number=k, function="toy_trials:ranked_trial", seconds_per_epoch=0.5) for k in (0, 1)
    ]
    with ProcessExecutor(n_slots=2, n_processes=2, on_report=lambda number, values: None) as hands:
        run(hands, *jobs)
        third = a_job(tmp_path, number=2, function="toy_trials:ranked_trial")
        run(hands, third)
    taken = [
        [json.loads(path.read_text())["LOCAL_RANK"] for path in sorted(job.directory.glob("rank_*"))]
        for job in (*jobs, third)
    ]
    assert taken == [["0", "1"], ["2", "3"], ["0", "1"]]
