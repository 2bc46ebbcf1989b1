"""The study on disk: one SQLite file, one lease, one identity.

SQLite runs in WAL mode with a busy timeout of 60 s, so that a dashboard may read while the driver writes.
The lease is a ``flock``: the kernel frees it when its process dies, kill -9 included. The identity
(`StudyIdentity`) is what makes two trials comparable; a study of another identity is refused.
"""

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import optuna
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from sqlalchemy import event

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.core.hashing import content_hash
from finscale.search.verbosity import quiet_optuna

__all__ = ["STUDY_FILE", "StudyIdentity", "archive_study", "lease", "load_study", "open_study"]

STUDY_FILE = "study.db"
_LOCK_FILE = "study.db.lock"
_ARCHIVE = "archive"
_BUSY_TIMEOUT_S = 60


class StudyIdentity(Record):
    """Hashes of all that makes two trials comparable; never n_trials, device, environment or sampler.

    Parameters
    ----------
    experiment, cell, space, split, grid, training, data : str
        Content hashes; ``training`` covers what every trial shares (patience, caps, effective batch).
    """

    experiment: str
    cell: str
    space: str
    split: str
    grid: str
    training: str
    data: str

    @property
    def config_hash(self) -> str:
        """One hash over all parts."""
        return content_hash(self)


def open_study(
    directory: Path, *, name: str, identity: StudyIdentity, attributes: Mapping[str, Any]
) -> optuna.Study:
    """Open or create the study in ``directory``.

    Parameters
    ----------
    name : str
        Name of the study in the file.
    identity : StudyIdentity
        What the trials are about to have in common.
    attributes : mapping
        JSON values kept with the study; refreshed on every opening.

    Raises
    ------
    Fault
        When the study there has another identity; it names the parts that differ.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with quiet_optuna():
        study = optuna.create_study(
            study_name=name,
            storage=_storage(directory / STUDY_FILE),
            sampler=RandomSampler(),
            load_if_exists=True,
        )
    _refuse_foreign(study, identity)
    for key, value in {**attributes, "identity": identity.model_dump()}.items():
        if study.user_attrs.get(key) != value:
            study.set_user_attr(key, value)
    return study


def load_study(directory: Path) -> optuna.Study:
    """Open the one study of ``directory``, which must exist.

    Raises
    ------
    Fault
        When there is no study file, or not exactly one study in it.
    """
    path = directory / STUDY_FILE
    remedy = "run the hpo pipeline of this cell first"
    if not path.exists():
        raise Fault(str(path), "exist", "no such file", remedy)
    storage = _storage(path)
    names = optuna.get_all_study_names(storage)
    if len(names) != 1:
        raise Fault(str(path), "hold exactly one study", names, remedy)
    return optuna.load_study(study_name=names[0], storage=storage, sampler=RandomSampler())


@contextlib.contextmanager
def lease(directory: Path) -> Iterator[None]:
    """Hold the study of ``directory``: one driver at a time.

    Raises
    ------
    Fault
        When another living process holds it; it names that process and its host. When the directory cannot
        be made or written.
    """
    with _open_lock(directory) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _held_fault(directory, file.read()) from None
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": platform.node(), "since": _now()}, file)
        file.flush()
        yield


def _open_lock(directory: Path) -> TextIO:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return (directory / _LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        rule, remedy = "be a directory that can be written", "make it so, or set paths.data to another place"
        raise Fault(f"study {directory}", rule, error.strerror, remedy) from None


def archive_study(directory: Path) -> Path | None:
    """Move everything of the study, its lock apart, to ``archive/<date>/``; None where there is no study.

    The caller holds the lease.
    """
    if not (directory / STUDY_FILE).exists():
        return None
    target = _free_name(directory / _ARCHIVE / _now().replace(":", "-"))
    target.mkdir(parents=True)
    for path in sorted(directory.iterdir()):
        if path.name not in (_LOCK_FILE, _ARCHIVE):
            path.rename(target / path.name)
    return target


def _storage(path: Path) -> RDBStorage:
    storage = RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": _BUSY_TIMEOUT_S}})
    event.listen(storage.engine, "connect", _set_pragmas)
    # connections made while the tables were created missed the listener
    storage.engine.dispose()
    return storage


def _set_pragmas(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={_BUSY_TIMEOUT_S * 1000}"):
        connection.execute(f"PRAGMA {pragma}")


def _refuse_foreign(study: optuna.Study, identity: StudyIdentity) -> None:
    recorded = study.user_attrs.get("identity")
    ours = identity.model_dump()
    if recorded is None or recorded == ours:
        return
    differing = [part for part in ours if recorded.get(part) != ours[part]]
    rule = f"have config_hash {identity.config_hash}"
    got = f"{content_hash(recorded)} (another {', '.join(differing)})"
    remedy = "set hpo.restart=true to archive it under its date and begin again, or restore what changed"
    raise Fault(f"study {study.study_name}", rule, got, remedy)


def _held_fault(directory: Path, content: str) -> Fault:
    try:
        holder = json.loads(content)
        got = f"a second driver beside process {holder['pid']} on {holder['host']} (since {holder['since']})"
    except (ValueError, KeyError):
        got = "a second driver"
    remedy = "wait for it, or stop it: touch STOP in the same directory"
    return Fault(f"study {directory}", "have one driver at a time", got, remedy)


def _free_name(path: Path) -> Path:
    """Return ``path``, with a number where it is taken."""
    taken = (path.with_name(f"{path.name}-{k}") for k in range(2, 1000))
    return next(candidate for candidate in (path, *taken) if not candidate.exists())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
