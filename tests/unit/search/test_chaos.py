"""Kill drivers and workers at the worst moments: the study ends whole, and nothing is trained in vain."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pair_driver
import pytest
import search_toys
from optuna.trial import TrialState
from search_toys import SearchEvent, chaotic, drive
from toy_trials import is_alive, wait_until

from finscale.core.errors import Fault
from finscale.search.driver import trial_directory
from finscale.search.study import STUDY_FILE, lease, load_study

N_TRIALS = 30
Told = dict[int, tuple[dict, float]]


@contextmanager
def a_driver(directory: Path, *, die_before_telling: int = -1) -> Iterator[subprocess.Popen]:
    """A driver with two workers, in a process of its own; what is left of it is killed."""
    words = [search_toys.__file__, str(directory), str(N_TRIALS), str(die_before_telling)]
    with subprocess.Popen([sys.executable, *words]) as driver:
        try:
            yield driver
        finally:
            driver.kill()
            driver.wait()


def finish(directory: Path) -> optuna.Study:
    result, study = drive(directory, config=chaotic(N_TRIALS), epochs=10)
    assert result.outcome == "complete"
    return study


def running(directory: Path) -> list[int]:
    """Numbers of trials that have begun an epoch and have no outcome yet."""
    begun = [path.parent for path in directory.glob("trials/*/epoch")]
    return sorted(int(path.name[-4:]) for path in begun if not (path / "outcome.json").exists())


def epoch(directory: Path, number: int) -> int:
    return int((trial_directory(directory, number) / "epoch").read_text())


def two_are_under_way(directory: Path) -> bool:
    """Whether two trials have something to lose, and are far enough from their end to be caught."""
    numbers = running(directory)
    return len(numbers) == 2 and all(3 <= epoch(directory, number) <= 6 for number in numbers)


def n_outcomes(directory: Path) -> int:
    return len(list(directory.glob("trials/*/outcome.json")))


def pids(directory: Path, number: int) -> list[int]:
    path = trial_directory(directory, number) / "attempts"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def sizes(directory: Path, number: int) -> list[int]:
    path = trial_directory(directory, number) / "attempts"
    return [int(line.split()[1]) for line in path.read_text().splitlines()]


def kill(driver: subprocess.Popen) -> None:
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def children_are_gone(directory: Path) -> bool:
    numbers = [int(path.name[-4:]) for path in directory.glob("trials/trial_*") if path.is_dir()]
    return not any(is_alive(pid) for number in numbers for pid in pids(directory, number))


def params_of(directory: Path) -> dict[int, dict]:
    return {trial.number: trial.params for trial in load_study(directory).trials}


def assert_whole(study: optuna.Study) -> None:
    assert [trial.number for trial in study.trials] == list(range(N_TRIALS))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert {trial.user_attrs["outcome"] for trial in study.trials} == {"complete"}


def test_a_search_whose_workers_and_drivers_are_killed_again_and_again_ends_whole(tmp_path: Path) -> None:
    with a_driver(tmp_path) as driver:
        # a worker in mid-trial; we did not send that signal, so it counts as the kernel's memory killer
        wait_until(lambda: n_outcomes(tmp_path) >= 2 and bool(running(tmp_path)))
        victim = running(tmp_path)[0]
        os.kill(pids(tmp_path, victim)[-1], signal.SIGKILL)
        wait_until(lambda: len(pids(tmp_path, victim)) == 2)
        # the driver, with two trials running
        wait_until(lambda: n_outcomes(tmp_path) >= 6 and two_are_under_way(tmp_path))
        with pytest.raises(Fault, match=f"a second driver beside process {driver.pid} on"), lease(tmp_path):
            pass
        kill(driver)
    lost, before = running(tmp_path), params_of(tmp_path)
    assert len(lost) == 2
    wait_until(lambda: children_are_gone(tmp_path), seconds=10)
    # the next one, between training and telling
    doomed = len(before) + 4
    with a_driver(tmp_path, die_before_telling=doomed) as driver:
        wait_until(lambda: driver.poll() is not None)
        assert driver.returncode == -signal.SIGKILL
    assert load_study(tmp_path).trials[doomed].state == TrialState.RUNNING
    assert (trial_directory(tmp_path, doomed) / "outcome.json").exists()
    before |= params_of(tmp_path)
    wait_until(lambda: children_are_gone(tmp_path), seconds=10)

    study = finish(tmp_path)
    assert_whole(study)
    assert {number: study.trials[number].params for number in before} == before
    assert all((trial_directory(tmp_path, number) / "epoch").read_text() == "10" for number in lost)
    assert len(pids(tmp_path, doomed)) == 1
    assert sizes(tmp_path, victim)[:2] == [128, 64]
    assert study.trials[victim].user_attrs["n_halvings"] == 1
    attempts = Counter(len(pids(tmp_path, number)) for number in range(N_TRIALS))
    assert attempts[1] >= N_TRIALS - 6


def test_what_was_trained_before_a_kill_is_trained_on_and_not_again(tmp_path: Path) -> None:
    with a_driver(tmp_path) as driver:
        wait_until(lambda: two_are_under_way(tmp_path))
        kill(driver)
    lost = {number: epoch(tmp_path, number) for number in running(tmp_path)}
    wait_until(lambda: children_are_gone(tmp_path), seconds=10)
    first: dict[int, int] = {}

    def listen(event: SearchEvent) -> None:
        if event.kind == "progress":
            first.setdefault(event.number, event.values["epoch"])

    drive(tmp_path, config=chaotic(2), epochs=10, on_event=listen)
    assert lost
    assert all(first[number] > reached for number, reached in lost.items() if number in first)


@pytest.mark.parametrize("executor", ["process", "ray"])
def test_the_processes_of_an_attempt_all_end_with_their_driver(tmp_path: Path, executor: str) -> None:
    if executor == "ray":
        pytest.importorskip("ray", reason="the extra [cluster] is not installed")
    words = [sys.executable, pair_driver.__file__, str(tmp_path), executor]
    with subprocess.Popen(words) as driver:
        wait_until(lambda: (tmp_path / "0" / "onlooker").exists() and (tmp_path / "0" / "epoch").exists())
        found = [int((tmp_path / "0" / name).read_text().split()[0]) for name in ("attempts", "onlooker")]
        assert all(map(is_alive, found))
        kill(driver)
    wait_until(lambda: not any(map(is_alive, found)), seconds=20)


# -- places that cannot be written ---------------------------------------------------------------------------


def a_file_in_the_way(directory: Path) -> Path:
    (directory / "hpo").write_text("not a directory")
    return directory / "hpo" / "20K_h1"


def a_read_only_directory(directory: Path) -> Path:
    if os.geteuid() == 0:
        pytest.skip("the superuser writes to read-only directories")
    directory.chmod(0o500)
    return directory


@pytest.mark.parametrize("place", [a_file_in_the_way, a_read_only_directory])
def test_a_directory_that_cannot_be_written_is_named_before_the_first_trial(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    directory = place(tmp_path)
    with pytest.raises(Fault, match=rf"study {directory} must be a directory that can be written, got .*; "):
        drive(directory, config=chaotic(2))
    assert not (tmp_path / STUDY_FILE).exists()
