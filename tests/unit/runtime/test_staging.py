"""Attempts that see a store and a folder of their own end as those do that see the driver's files."""

import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import on_cluster
import pytest
from on_cluster import a_job
from optuna.trial import TrialState
from search_cells import few_rows, search, small, write_windows
from search_toys import drive

from finscale.core.errors import Fault
from finscale.runtime import staging
from finscale.runtime.shared_store import SharedStore, StoreGone
from finscale.runtime.staging import StagedExecutor, staged
from finscale.search.attempts import Job
from finscale.search.config import SearchConfig
from finscale.search.executors import Executor, Finished, OnReport
from finscale.search.groups import Member
from finscale.search.outcomes import TrialOutcome
from finscale.search.processes import ProcessExecutor
from finscale.search.study import load_study
from finscale.windows.data import load_windows
from servers.object_store import SECRET, ObjectStore


class OneNode(ProcessExecutor):
    """A node in this process: what it runs sees the store, and of the driver nothing."""

    def __init__(self, store: SharedStore, *, n_slots: int, on_report: OnReport) -> None:
        super().__init__(n_slots=n_slots, on_report=self._hear)
        self._store, self._listener = store, on_report
        self._held: dict[int, tuple[ExitStack, Callable[[], None]]] = {}
        self.seen: list[Job] = []

    def submit(self, job: Job) -> None:
        held = ExitStack()
        local, push = held.enter_context(staged(job, self._store))
        self._held[job.number] = (held, push)
        self.seen.append(local)
        super().submit(local)

    def poll(self, timeout_s: float) -> list[Finished]:
        ended = super().poll(timeout_s)
        for finished in ended:
            self._held.pop(finished.number)[0].close()
        return ended

    def _hear(self, number: int, values: Mapping[str, Any]) -> None:
        self._held[number][1]()
        self._listener(number, values)


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the node that this process is."""
    monkeypatch.setattr(staging, "_BETWEEN_SENDS_S", 0.0)
    return enter_node(tmp_path / "node", monkeypatch)


def enter_node(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder.mkdir()
    # for staging alone: processes of this test keep their sockets elsewhere
    monkeypatch.setattr(staging, "tempfile", SimpleNamespace(gettempdir=lambda: str(folder)))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> SharedStore:
    (tmp_path / "store").mkdir()
    return SharedStore(f"file://{tmp_path}/store", patience_s=5)


@pytest.fixture
def windows(tmp_path: Path) -> Path:
    write_windows(tmp_path / "driver" / "windows")
    return tmp_path / "driver" / "windows"


def unheard(number: int, values: Mapping[str, Any]) -> None:
    return None


def staged_here(store: SharedStore, on_report: OnReport = unheard) -> StagedExecutor:
    return StagedExecutor(OneNode(store, n_slots=2, on_report=on_report), store)


def run(executor: Executor, job: Job) -> TrialOutcome:
    executor.submit(job)
    give_up_at = time.monotonic() + 120
    while time.monotonic() < give_up_at:
        for finished in executor.poll(0.2):
            return finished.outcome
    raise AssertionError("the attempt did not end")


class Sink(Executor):
    """Keeps the jobs that it is given, and ends none."""

    def __init__(self) -> None:
        super().__init__(n_slots=1, on_report=unheard)
        self.jobs: list[Job] = []
        self.ended: list[Finished] = []

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def poll(self, timeout_s: float) -> list[Finished]:
        ended, self.ended = self.ended, []
        return ended

    def cancel(self, number: int) -> None: ...

    def close(self) -> None: ...


def sent(store: SharedStore, job: Job) -> Job:
    """The job as a node receives it."""
    sink = Sink()
    StagedExecutor(sink, store).submit(job)
    return sink.jobs[0]


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_a_search_through_a_store_finds_what_one_on_the_driver_finds(
    kind: str, store: SharedStore, tmp_path: Path, windows: Path, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("object_store") if kind == "s3" else None
    store = SharedStore(server.new_address(), patience_s=5) if server else store
    nodes: list[OneNode] = []

    def through_the_store(config: SearchConfig, *, on_report: OnReport, **_asked: Any) -> Executor:
        nodes.append(OneNode(store, n_slots=2, on_report=on_report))
        return StagedExecutor(nodes[0], store)

    config, rows = small(executor="process", n_workers=2), few_rows()
    plain = search(tmp_path / "plain", rows, windows, config)
    apart = search(tmp_path / "apart", rows, windows, config, make_executor=through_the_store)
    assert apart.outcome == plain.outcome == "complete"
    values = [
        {trial.number: trial.value for trial in load_study(tmp_path / name).trials}
        for name in ("plain", "apart")
    ]
    assert values[0] == values[1]
    kept = [
        {path.relative_to(tmp_path / name).as_posix() for path in (tmp_path / name).glob("trials/*/*")}
        for name in ("plain", "apart")
    ]
    assert {path for path in kept[1] if not path.endswith(".staging.json")} == kept[0] - {
        path for path in kept[0] if path.endswith(".lock")
    }
    assert not any(str(tmp_path / "driver") in str(job) for job in nodes[0].seen)
    assert SECRET not in str(nodes[0].seen)
    left = set(store.sizes(""))
    assert left
    assert all(name.startswith("windows/") for name in left)


def test_a_search_survives_failures_and_memory_that_is_not_there(store: SharedStore, tmp_path: Path) -> None:
    behaviours = {1: "raise", 2: "oom above 32", 3: "kill SIGKILL"}
    result, study = drive(
        tmp_path / "driver",
        config=SearchConfig(n_trials=5, sampler="sample", n_workers=2),
        behaviours=behaviours,
        epochs=2,
        executor=lambda on_report: staged_here(store, on_report),
    )
    assert result.outcome == "complete"
    assert [trial.user_attrs["outcome"] for trial in study.trials][:4] == [
        "complete",
        "failed",
        "complete",
        "oom",
    ]
    lines = (tmp_path / "driver/trials/trial_0002/attempts").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["128", "64", "32"]
    assert "the toy broke" in (tmp_path / "driver/trials/trial_0001/failure.txt").read_text()
    assert {trial.state for trial in study.trials if trial.number > 3} == {TrialState.COMPLETE}
    assert store.sizes("trials") == {}


def test_what_a_lost_node_had_sent_is_where_the_next_one_goes_on(
    store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, sink = a_job(tmp_path / "driver"), Sink()
    driver = StagedExecutor(sink, store)
    driver.submit(job)
    first = staged(sink.jobs[0], store)
    local, push = first.__enter__()
    (local.directory / "epoch").write_text("2")
    push()
    wait_for(lambda: len(store.sizes("trials")) > 1)
    sink.ended.append(Finished(0, TrialOutcome(outcome="lost", reason="its node died"), 1.0))
    assert len(driver.poll(0.0)) == 1
    enter_node(tmp_path / "another node", monkeypatch)
    epochs: list[int] = []
    again = staged_here(store, lambda number, values: epochs.append(values["epoch"]))
    assert run(again, job).outcome == "complete"
    assert epochs == [3]
    found = texts(job.directory)
    assert found["epoch"] == "3"
    assert found["attempts"].count("\n") == 1
    # the first node was only cut off: what it says now is not heard
    (local.directory / "epoch").write_text("1")
    first.__exit__(None, None, None)
    assert texts(job.directory) == found


def wait_for(happened: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + 180
    while not happened():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_a_driver_that_begins_again_adopts_what_lies_only_in_the_store(
    store: SharedStore, tmp_path: Path
) -> None:
    job = a_job(tmp_path / "driver")
    job.directory.mkdir(parents=True)
    (job.directory / "epoch").write_text("1")
    with staged(sent(store, job), store) as (local, _):
        (local.directory / "epoch").write_text("2")
    assert (job.directory / "epoch").read_text() == "1"
    epochs: list[int] = []
    with staged_here(store, lambda number, values: epochs.append(values["epoch"])) as again:
        assert run(again, job).outcome == "complete"
    assert epochs == [3]
    assert texts(job.directory)["epoch"] == "3"


def test_a_trial_that_began_on_the_drivers_machine_goes_on_from_there(
    store: SharedStore, tmp_path: Path
) -> None:
    job = a_job(tmp_path / "driver")
    job.directory.mkdir(parents=True)
    (job.directory / "epoch").write_text("2")
    epochs: list[int] = []
    with staged_here(store, lambda number, values: epochs.append(values["epoch"])) as executor:
        run(executor, job)
    assert epochs == [3]


def test_weights_that_the_driver_deleted_do_not_come_back(store: SharedStore, tmp_path: Path) -> None:
    job = a_job(tmp_path / "driver")
    job.directory.mkdir(parents=True)
    (job.directory / "best.safetensors").write_text("weights")
    with staged_here(store) as executor:
        assert run(executor, job).outcome == "complete"
        assert (job.directory / "best.safetensors").exists()
        (job.directory / "best.safetensors").unlink()
        assert run(executor, job).outcome == "complete"
    assert not (job.directory / "best.safetensors").exists()
    assert (job.directory / "attempts").read_text().count("\n") == 1


def test_what_an_attempt_deletes_is_deleted_with_the_driver(store: SharedStore, tmp_path: Path) -> None:
    job = a_job(tmp_path / "driver")
    (job.directory / "checkpoints").mkdir(parents=True)
    (job.directory / "checkpoints/step_1.json").write_text("{}")
    sink = Sink()
    driver = StagedExecutor(sink, store)
    driver.submit(job)
    with staged(sink.jobs[0], store) as (local, _):
        (local.directory / "checkpoints/step_1.json").unlink()
    sink.ended.append(Finished(0, TrialOutcome(outcome="complete", value=0.5), 1.0))
    driver.poll(0.0)
    assert not (job.directory / "checkpoints/step_1.json").exists()


def test_trials_of_two_projects_never_meet(store: SharedStore, tmp_path: Path) -> None:
    jobs = [sent(store, a_job(tmp_path / name)) for name in ("one", "two")]
    assert jobs[0].directory != jobs[1].directory
    assert sent(store, a_job(tmp_path / "one")).directory == jobs[0].directory


def test_windows_are_sent_once_and_fetched_once_by_attempts_that_ask_at_once(
    store: SharedStore, windows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    for name in ("put", "get"):
        real = getattr(SharedStore, name)

        def told(*arguments: Any, name: str = name, real: Any = real) -> Any:
            moved.append(name)
            time.sleep(0.05)
            return real(*arguments)

        monkeypatch.setattr(SharedStore, name, told)
    jobs = []
    for number in range(4):
        job = a_job(tmp_path / f"driver {number}", windows=str(windows))
        jobs.append(sent(store, job))
    assert moved == ["put"] * 3
    found: list[Path] = []

    def attend(job: Job) -> None:
        with staged(job, store) as (local, _):
            load_windows(Path(local.payload["windows"]))
            found.append(Path(local.payload["windows"]))

    threads = [threading.Thread(target=attend, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert moved.count("get") == 3


def test_windows_that_were_fetched_in_part_or_tidied_away_are_fetched_again(
    store: SharedStore, windows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = sent(store, a_job(tmp_path / "driver", windows=str(windows)))
    real, calls = SharedStore.get, itertools.count()

    def cut_off(*arguments: Any) -> None:
        real(*arguments)
        if next(calls) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SharedStore, "get", cut_off)
        with pytest.raises(KeyboardInterrupt), staged(job, store):
            pass
    for _ in range(2):
        with staged(job, store) as (local, _):
            load_windows(Path(local.payload["windows"]))
            (Path(local.payload["windows"]) / "values.parquet").unlink()


def test_windows_that_are_damaged_in_the_store_are_never_used(
    store: SharedStore, windows: Path, tmp_path: Path
) -> None:
    job = sent(store, a_job(tmp_path / "driver", windows=str(windows)))
    for blob, size in store.sizes(f"{job.payload['windows']}/blobs").items():
        store.write(blob, b"\0" * size)
    with (
        pytest.raises(Fault, match=r"must hold whole windows.*delete it there and run again"),
        staged(job, store),
    ):
        pass


def test_of_several_processes_the_leader_alone_sends(store: SharedStore, tmp_path: Path) -> None:
    job = sent(store, a_job(tmp_path / "driver"))
    member = Member(rank=1, n_processes=2, local_rank=0, address="127.0.0.1", port=1)
    before = store.sizes("")
    with staged(dataclasses.replace(job, member=member), store) as (local, push):
        (local.directory / "epoch").write_text("9")
        push()
    assert store.sizes("") == before


def test_training_does_not_wait_for_a_store_that_is_away_and_loses_nothing(
    tmp_path: Path, own_store: ObjectStore
) -> None:
    store = SharedStore(own_store.new_address(), patience_s=60)
    job = a_job(tmp_path / "driver")
    with staged(sent(store, job), store) as (local, push):
        own_store.stop()
        started = time.monotonic()
        for number in range(20):
            (local.directory / "epoch").write_text(f"{number}")
            push()
            time.sleep(0.01)
        assert time.monotonic() - started < 2
        back = threading.Timer(2, own_store.start)
        back.start()
    back.join()
    again: Any = {}
    with staged(sent(store, job), store) as (local, _):
        again = texts(local.directory)
    assert again["epoch"] == "19"


def test_a_store_that_stays_away_ends_the_attempt_with_an_error_of_its_own(
    tmp_path: Path, own_store: ObjectStore
) -> None:
    store = SharedStore(own_store.new_address(), patience_s=1)
    job = sent(store, a_job(tmp_path / "driver"))
    asked = itertools.count()
    with pytest.raises(StoreGone), staged(job, store) as (local, push):  # noqa: PT012
        own_store.stop()
        (local.directory / "epoch").write_text("1")
        while next(asked) < 200:
            push()
            time.sleep(0.1)
    assert next(asked) < 200
    own_store.start()


def test_a_node_keeps_no_folder_of_an_attempt_not_even_of_one_that_was_killed(
    store: SharedStore, tmp_path: Path, node: Path
) -> None:
    job = sent(store, a_job(tmp_path / "driver"))
    (attempts,) = [folder_of_attempts(job, store)]
    left = attempts / "0123"
    left.mkdir()
    (left / "weights").write_text("of a worker that was killed")
    left.with_suffix(".lock").touch()
    with staged(job, store):
        assert len([path for path in attempts.iterdir() if path.is_dir()]) == 1
        assert not left.exists()
    assert list(attempts.iterdir()) == []


def folder_of_attempts(job: Job, store: SharedStore) -> Path:
    with staged(job, store) as (local, _):
        return local.directory.parent.parent


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Where nodes have their temporary folders: the name of a socket in them has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="n") as folder:
        yield Path(folder)


def test_a_trial_whose_node_dies_goes_on_on_a_node_that_shares_nothing_with_it(
    object_store: ObjectStore, cluster: Any, tmp_path: Path, short_path: Path
) -> None:
    from ray.cluster_utils import Cluster

    assert isinstance(cluster, Cluster)
    nodes = {}
    for name in ("one", "two"):
        (short_path / name).mkdir()
        nodes[name] = cluster.add_node(num_cpus=1, env_vars={"TMPDIR": str(short_path / name)})
    address = object_store.new_address()
    words = [sys.executable, on_cluster.__file__, "train", str(tmp_path / "driver"), address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        wait_for(lambda: len([name for name in object_store.names(address) if "/blobs/" in name]) >= 2)
        used = next(name for name in nodes if list((short_path / name).rglob("epoch")))
        cluster.remove_node(nodes[used])
        told = json.loads(driver.stdout.read().splitlines()[-1])
    assert told["ends"] == ["lost", "complete"]
    assert told["epochs"] == list(range(told["epochs"][0], 31))
    assert told["epochs"][0] > 1
    found = texts(tmp_path / "driver")
    assert (found["epoch"], found["attempts"].count("\n")) == ("30", 2)
    assert object_store.names(address) == []


@pytest.fixture
def own_store() -> Iterator[ObjectStore]:
    from servers.object_store import running_store

    with running_store() as server:
        yield server
