"""Carry windows and the directories of trials between the driver and the nodes, through a shared store.

The store holds a trial only from when an attempt begins until the driver has fetched what it left. So what
lies there is newer than what the driver has, and what the driver has deleted cannot come back.
"""

import contextlib
import dataclasses
import fcntl
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from finscale.core.errors import Fault, FinscaleError
from finscale.core.files import read_json, write_json
from finscale.core.hashing import content_hash, file_hash
from finscale.runtime.shared_folder import STAYS, Pusher, files_of, holds, pull
from finscale.runtime.shared_store import SharedStore
from finscale.search.attempts import Job
from finscale.search.executors import Executor, Finished
from finscale.windows.data import MANIFEST as WINDOWS_MANIFEST

__all__ = ["StagedExecutor", "staged"]

_KEY_FILE: Final = STAYS[1]
_BETWEEN_SENDS_S: Final = 10.0
_N_SNAPSHOTS: Final = 10
_logger = logging.getLogger(__name__)


class _Background:
    """Does one thing in a thread of its own whenever asked, however often that is, with a pause between."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._asked, self._ended = threading.Event(), threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Have it done soon; raise what it last failed with."""
        if self._error is not None:
            raise self._error
        self._asked.set()

    def end(self) -> None:
        """Wait until it is no longer being done, and is not done again; raise what it failed with."""
        self._ended.set()
        self._asked.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while self._asked.wait() and not self._ended.is_set():
            self._asked.clear()
            try:
                self._work()
            except Exception as error:
                self._error = error
                return
            self._ended.wait(_BETWEEN_SENDS_S)


@contextlib.contextmanager
def staged(job: Job, store: SharedStore | None) -> Iterator[tuple[Job, Callable[[], None]]]:
    """Bring a job to this node: its windows and its directory are fetched, and at the end the latter is sent.

    Parameters
    ----------
    job : Job
        As `StagedExecutor` sent it; where ``store`` is None, any job, which stays as it is.

    Yields
    ------
    tuple of Job and callable
        The job with paths of this node; and what to call whenever something was written: it returns at once
        and the directory is sent soon, so that training never waits for the store.

    Raises
    ------
    StoreGone
        When the store does not answer for ten minutes: then, or when the callable is called next.
    """
    if store is None:
        yield job, _nothing
        return
    with _place_of_attempt() as place:
        key, directory = job.directory.as_posix(), place / job.directory.name
        pull(store, key, directory)
        directory.mkdir(exist_ok=True)
        local = dataclasses.replace(job, payload=_with_windows(job.payload, store), directory=directory)
        if job.follows:
            yield local, _nothing
            return
        with _sent(directory, store, key) as push:
            yield local, push


@contextlib.contextmanager
def _sent(directory: Path, store: SharedStore, key: str) -> Iterator[Callable[[], None]]:
    """Send a directory now, whenever asked, and at the end."""
    pusher = Pusher(store, key)

    def send() -> None:
        with _snapshot(directory, directory.with_name(".snapshot")) as files:
            pusher.push(files)

    send()
    background = _Background(send)
    try:
        yield background.ask
    finally:
        background.end()
        send()


def _nothing() -> None:
    return None


def _with_windows(payload: Mapping[str, Any], store: SharedStore) -> dict[str, Any]:
    if "windows" not in payload:
        return dict(payload)
    return {**payload, "windows": str(_windows_on_this_node(store, payload["windows"]))}


@contextlib.contextmanager
def _snapshot(directory: Path, place: Path) -> Iterator[dict[str, Path]]:
    """Hold the files of a directory as they are at one moment, while it is written to.

    Weights are replaced whole, and a second link holds the old ones; a log grows, and is copied.
    """
    for _ in range(_N_SNAPSHOTS):
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            held = {name: _hold(path, place / name) for name, path in files_of(directory).items()}
            break
    else:
        raise OSError(f"{directory} changes faster than it can be listed")
    try:
        yield held
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _hold(path: Path, copy: Path) -> Path:
    copy.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        os.link(path, copy)
    else:
        shutil.copy2(path, copy)
    return copy


def _cache() -> Path:
    """Return the folder of this node, and of this user alone, in which copies lie."""
    folder = Path(tempfile.gettempdir()) / f"finscale-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise Fault(str(folder), "be a folder of this user", "another's", "remove it, or set TMPDIR")
    return folder


@contextlib.contextmanager
def _place_of_attempt() -> Iterator[Path]:
    """Make a folder for one attempt, which goes with it; those of workers that were killed go as well."""
    folder = _cache() / "attempts"
    folder.mkdir(exist_ok=True)
    for left in folder.glob("*.lock"):
        with _locked(left, wait=False) as is_free:
            if is_free:
                shutil.rmtree(left.with_suffix(""), ignore_errors=True)
                left.unlink(missing_ok=True)
    place = folder / uuid4().hex
    with _locked(place.with_suffix(".lock"), wait=True):
        place.mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
            place.with_suffix(".lock").unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file; False where another has it and one does not wait."""
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _windows_on_this_node(store: SharedStore, key: str) -> Path:
    """Return windows of the store in this node's cache; of several attempts that ask at once, one fetches."""
    place = _cache() / key
    place.parent.mkdir(exist_ok=True)
    with _locked(place.with_suffix(".lock"), wait=True):
        if not _is_whole(place) and not pull(store, key, place):
            remedy = "delete it there and run again: the driver sends it"
            raise Fault(f"{store.address}/{key}", "hold whole windows", "none", remedy)
    return place


def _is_whole(windows: Path) -> bool:
    """Whether every file has its digest: who tidies a node's temporary files takes single ones."""
    try:
        digests = read_json(windows / WINDOWS_MANIFEST)["sha256"]
        return all(file_hash(windows / name) == digest for name, digest in digests.items())
    except (FinscaleError, OSError):
        return False


class StagedExecutor(Executor):
    """Gives another executor's attempts their files through a store: the driver's side of `staged`.

    Parameters
    ----------
    hands : Executor
        Runs the attempts on nodes that see the store and not the driver's files.
    """

    def __init__(self, hands: Executor, store: SharedStore) -> None:
        super().__init__(n_slots=hands.n_slots, on_report=_unheard)
        self._hands, self._store = hands, store
        self._directories: dict[int, Path] = {}
        self._sent: set[str] = set()

    def submit(self, job: Job) -> None:
        """Send what the attempt reads, where the store does not have it, and start it."""
        key = _key_of(job.directory)
        if not holds(self._store, key):
            self._send(key, files_of(job.directory))
        payload = dict(job.payload)
        if "windows" in payload:
            payload["windows"] = self._send_windows(Path(payload["windows"]))
        self._directories[job.number] = job.directory
        self._hands.submit(dataclasses.replace(job, payload=payload, directory=Path(key)))

    def poll(self, timeout_s: float) -> list[Finished]:
        """Return the attempts that ended, once what they left is here."""
        ended = self._hands.poll(timeout_s)
        for finished in ended:
            self._receive(self._directories.pop(finished.number), finished)
        return ended

    def cancel(self, number: int) -> None:
        """Ask an attempt to stop at its next step."""
        self._hands.cancel(number)

    def close(self) -> None:
        """End whatever still runs; what it had sent stays in the store."""
        self._hands.close()

    def _receive(self, directory: Path, finished: Finished) -> None:
        """Fetch what an attempt left and forget it there; a lost one goes on from there on another node."""
        if finished.outcome.outcome == "lost":
            return
        key = _key_of(directory)
        pull(self._store, key, directory)
        self._store.delete(self._store.sizes(key))

    def _send_windows(self, folder: Path) -> str:
        """Send windows once, whatever folder they lie in: their key is the hash of their content."""
        manifest = read_json(folder / WINDOWS_MANIFEST)
        key = f"windows/{content_hash(manifest, length=24)}"
        if key not in self._sent and not holds(self._store, key):
            _logger.info("Sending the windows of %s to %s", folder, self._store.address)
            names = (*manifest["sha256"], WINDOWS_MANIFEST)
            self._send(key, {name: folder / name for name in names})
        self._sent.add(key)
        return key

    def _send(self, key: str, files: Mapping[str, Path]) -> None:
        if files:
            Pusher(self._store, key).push(files)


def _unheard(number: int, values: Mapping[str, Any]) -> None:
    """Reports go from the attempts' own executor to whoever listens there."""


def _key_of(directory: Path) -> str:
    """Return where the store keeps a directory: drawn once, so that no two projects meet there."""
    path = directory / _KEY_FILE
    if not path.exists():
        write_json(path, {"key": f"trials/{directory.name}-{uuid4().hex}"})
    key: str = read_json(path)["key"]
    return key
