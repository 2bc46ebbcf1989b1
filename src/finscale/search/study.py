"""The study of a directory: one SQLite file or a name in a database, one lease, one identity.

Where ``OPTUNA_STORAGE_URL`` is set (`finscale.search.database`), trials go there, and a pointer in the
directory says under which name. A study stays where it began.

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
from finscale.core.files import read_json, write_json
from finscale.core.hashing import content_hash
from finscale.search.database import (
    VARIABLE,
    close_storage,
    database,
    driver_storage,
    put_aside,
    reader_storage,
)
from finscale.search.verbosity import quiet_optuna

__all__ = [
    "STUDY_FILE",
    "StudyIdentity",
    "archive_study",
    "has_study",
    "lease",
    "load_study",
    "open_study",
    "refuse_other_machines",
]

STUDY_FILE = "study.db"
_POINTER_FILE = "study.json"
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
        Name of the study in the file, or in the database.
    identity : StudyIdentity
        What the trials are about to have in common.
    attributes : mapping
        JSON values kept with the study; refreshed on every opening.

    Raises
    ------
    Fault
        When the study there has another identity; it names the parts that differ. When it began elsewhere
        than where it would now be kept. When another driver has it open in the database.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with quiet_optuna():
        study = optuna.create_study(
            study_name=name,
            storage=_driver_storage(directory, name),
            sampler=RandomSampler(),
            load_if_exists=True,
        )
    try:
        _refuse_foreign(study, identity)
    except Fault:
        close_storage(study)
        raise
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
    if (directory / _POINTER_FILE).exists():
        return _load_named(directory)
    if not path.exists():
        raise Fault(str(path), "exist", "no such file", remedy)
    storage = _storage(path)
    names = optuna.get_all_study_names(storage)
    if len(names) != 1:
        raise Fault(str(path), "hold exactly one study", names, remedy)
    return optuna.load_study(study_name=names[0], storage=storage, sampler=RandomSampler())


def has_study(directory: Path) -> bool:
    """Whether a study began in ``directory``."""
    return (directory / STUDY_FILE).exists() or (directory / _POINTER_FILE).exists()


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
        json.dump({"pid": os.getpid(), **_here(), "since": _now()}, file)
        file.flush()
        try:
            yield
        finally:
            # a driver whose name stays here was killed
            file.truncate(0)


def refuse_other_machines(directory: Path) -> None:
    """Refuse a study in a file whose last driver, on another machine, did not end and may be alive.

    File locks do not reach over every shared file system, and SQLite's own do over few.

    Raises
    ------
    Fault
        With that driver's name, and where studies of several machines can be kept.
    """
    path = directory / _LOCK_FILE
    content = path.read_text(encoding="utf-8") if path.exists() and database() is None else ""
    try:
        holder = json.loads(content)
        if any(holder[name] == found for name, found in _here().items()):
            return
        got = f"process {holder['pid']} on {holder['host']} (since {holder['since']})"
    except (ValueError, KeyError, TypeError):
        return
    rule = f"be driven from {platform.node()} alone while it is a SQLite file"
    remedy = f"delete {_LOCK_FILE} there if that driver is gone, or set {VARIABLE} to a PostgreSQL database"
    raise Fault(f"study {directory}", rule, got, remedy)


def _here() -> dict[str, str]:
    """Name this machine: containers on one machine differ in one of the two, its restarts in the other."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {"host": platform.node(), "boot": boot.read_text().strip() if boot.exists() else platform.node()}


def _open_lock(directory: Path) -> TextIO:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return (directory / _LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        rule, remedy = "be a directory that can be written", "make it so, or set paths.data to another place"
        raise Fault(f"study {directory}", rule, error.strerror, remedy) from None


def archive_study(directory: Path, *, name: str) -> Path | None:
    """Move everything of the study, its lock apart, to ``archive/<date>/``; None where there is no study.

    In a database it keeps its trials, and takes the date into its name. The caller holds the lease.

    Raises
    ------
    Fault
        When another driver has it open in the database.
    """
    target, url = _free_name(directory / _ARCHIVE / _now().replace(":", "-")), database()
    new_name = f"{name} until {target.name}"
    if url is not None:
        put_aside(url, name, new_name)
        if (directory / _POINTER_FILE).exists():
            _point_at(directory, new_name)
    if not has_study(directory):
        return None
    target.mkdir(parents=True)
    for path in sorted(directory.iterdir()):
        if path.name not in (_LOCK_FILE, _ARCHIVE):
            path.rename(target / path.name)
    return target


def _driver_storage(directory: Path, name: str) -> RDBStorage:
    """Open where trials go, which is where they went before."""
    url, in_file, pointer = database(), directory / STUDY_FILE, directory / _POINTER_FILE
    remedy = "or set hpo.restart=true to archive it under its date and begin again"
    if url is None and pointer.exists():
        rule = f"be set for the study {directory}, whose trials lie in a database"
        raise Fault(VARIABLE, rule, "no such variable", f"set it, {remedy}")
    if url is None:
        return _storage(in_file)
    if in_file.exists():
        rule = f"be unset for the study {directory}, whose trials lie in {STUDY_FILE}"
        raise Fault(VARIABLE, rule, "a value", f"unset it, {remedy}")
    storage = driver_storage(url, name)
    _point_at(directory, name)
    return storage


def _point_at(directory: Path, name: str) -> None:
    write_json(directory / _POINTER_FILE, {"storage": VARIABLE, "study_name": name})


def _load_named(directory: Path) -> optuna.Study:
    url, name = database(), str(dict(read_json(directory / _POINTER_FILE)).get("study_name"))
    if url is None:
        raise Fault(VARIABLE, f"be set to read the study {name}", "no such variable", f"see {directory}")
    try:
        return optuna.load_study(study_name=name, storage=reader_storage(url), sampler=RandomSampler())
    except KeyError:
        raise Fault(VARIABLE, f"name the database of the study {name}", "another one") from None


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
