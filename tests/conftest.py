"""Shared by all tests: one thread, the real data where there is some, and a project to run commands in."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["DO_NOT_TRACK"] = "true"

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real files, or a skip that says what is missing."""
    folder = os.environ.get("FINSCALE_TEST_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("FINSCALE_TEST_DATA does not name a folder of real data")
    return Path(folder)


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    seconds: float


@dataclass(frozen=True)
class Project:
    """A copy of the project's configuration in its own folder; commands run as a user would type them."""

    folder: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "kedro", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}

    def kedro(self, *arguments: str, timeout: float = 300) -> Finished:
        """Run a command to its end."""
        started = time.monotonic()
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        return Finished(done.returncode, done.stdout, time.monotonic() - started)

    def interrupt(
        self, *arguments: str, when: Callable[[], bool], number: int = signal.SIGINT, timeout: float = 120
    ) -> Finished:
        """Start a command, send it a signal once ``when`` holds, and wait for its end."""
        started = time.monotonic()
        log = self.folder / "interrupted.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                while not when():
                    assert process.poll() is None, f"the command ended too early:\n{log.read_text()}"
                    assert time.monotonic() - started < timeout, f"never came so far:\n{log.read_text()}"
                    time.sleep(0.05)
                process.send_signal(number)
                process.wait(timeout)
            finally:
                if process.poll() is None:
                    process.kill()
        return Finished(process.returncode, log.read_text(), time.monotonic() - started)


def _make_project(folder: Path) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("conf", "pyproject.toml", ".telemetry"):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder / name)
    # the package itself is the installed one
    (folder / "src").mkdir()
    (folder / "data").mkdir()
    return Project(folder)


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Makes a project that several tests of a file share."""
    return lambda: _make_project(tmp_path_factory.mktemp("shared") / "project")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh clone, as far as Kedro is concerned."""
    return _make_project(tmp_path / "project")


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which ``kedro sweep --env test`` has run once; shared by all test processes, read-only."""
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    folder = shared / "swept"
    with _locked(shared / "swept.lock"):
        if not (folder / "sweep.log").exists():
            made = _make_project(folder)
            done = made.kedro("sweep", "--env", "test")
            (folder / "sweep.log").write_text(f"{done.code}\n{done.out}")
    code, _, out = (folder / "sweep.log").read_text().partition("\n")
    assert code == "0", out
    return Project(folder)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    from servers.postgres import running_server

    with running_server() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server with an empty database, in which the studies of a test are kept."""
    postgres_server.empty()
    monkeypatch.setenv("OPTUNA_STORAGE_URL", postgres_server.url())
    return postgres_server


@pytest.fixture(scope="session")
def object_store() -> Iterator[Any]:
    from servers.object_store import running_store

    with running_store() as server:
        yield server
