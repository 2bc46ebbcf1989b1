"""Studies in PostgreSQL: ``OPTUNA_STORAGE_URL`` names the database, and nothing else ever holds it.

A driver has one connection to its study, and that connection holds the lock on it (an advisory lock of its
session): whoever can write is the one driver. Where the connection is lost, the next one waits for the
database and takes the lock again, or finds that another driver has it. Readers hold no lock.

The password goes from the environment to the connection and nowhere else: neither the engine nor a message
knows it.
"""

import logging
import os
import platform
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb.models import TrialUserAttributeModel
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from finscale.core.errors import Fault
from finscale.core.hashing import content_hash

__all__ = [
    "VARIABLE",
    "close_storage",
    "database",
    "driver_storage",
    "patiently",
    "put_aside",
    "reader_storage",
    "require_database",
    "set_attributes",
]

T = TypeVar("T")

VARIABLE: Final = "OPTUNA_STORAGE_URL"
_DIALECT: Final = "postgresql+psycopg://"
_FORM: Final = "postgresql://user:password@host:5432/database"
_UNSET: Final = "or unset it: studies are then SQLite files on the driver's disk"
_CONNECT_S: Final = 5
_PATIENCE_S: Final = 600.0
_RETRY_S: Final = 1.0
_LOCK_S: Final = 3.0
_N_CUTS: Final = 5
_TABLES: Final = "finscale: tables of Optuna"
# the server too should notice within a minute that a driver's machine is gone
_KEEPALIVES: Final = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
_logger = logging.getLogger(__name__)


def database() -> URL | None:
    """Return where studies are kept; None where no database is named.

    Raises
    ------
    Fault
        When it is not a PostgreSQL database; the message does not repeat what was given.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    remedy = f"write {_FORM}, {_UNSET}"
    try:
        url = sqlalchemy.make_url(given)
    except ArgumentError:
        raise Fault(VARIABLE, "be the address of a database", "something else", remedy) from None
    kind = url.get_backend_name()
    if kind == "sqlite":
        rule = "name a PostgreSQL database: a SQLite file cannot be shared by drivers on several machines"
        raise Fault(VARIABLE, rule, kind, remedy)
    if kind != "postgresql" or not url.database:
        raise Fault(VARIABLE, "name a PostgreSQL database", kind, remedy)
    return url


def require_database() -> str:
    """Return where studies are kept; of a database, whether it lets us in.

    Raises
    ------
    Fault
        Within seconds, when it does not: not installed, no answer, wrong password, absent database.
    """
    url = database()
    if url is None:
        return "files beside them"
    _connect(url, "finscale pre-flight").close()
    return f"the database {url.database} at {url.host or 'a local socket'}"


def driver_storage(url: URL, name: str) -> RDBStorage:
    """Open the database for the one driver of a study, making its tables where it has none.

    Raises
    ------
    Fault
        When it cannot be opened, or another driver holds the study; it names that driver.
    """
    connector = _Connector(url, name)
    _make_tables(url)
    # one connection: a second one would be refused by the first one's lock
    only = {"pool_size": 1, "max_overflow": 0, "pool_pre_ping": True, "pool_timeout": _CONNECT_S}
    known = {"skip_compatibility_check": True, "skip_table_creation": True}
    storage = _OnceStorage(_DIALECT, engine_kwargs={"creator": connector, **only}, **known)
    connector.patience_s = _PATIENCE_S
    return storage


class _MayHaveEntered(Exception):
    """A trial was to be entered again whose first entry was cut off, perhaps after its commit."""


class _OnceStorage(RDBStorage):
    """Enters a trial once: Optuna by itself would do so again and again, and could leave several."""

    _entered: FrozenTrial | None = None

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial, session: Any) -> Any:
        if template_trial is self._entered:
            raise _MayHaveEntered
        self._entered = template_trial
        return super()._get_prepared_new_trial(study_id, template_trial, session)


def _make_tables(url: URL) -> None:
    """Have Optuna make its tables, one driver at a time."""
    with _connect(url, "finscale tables") as alone:
        alone.execute("SELECT pg_advisory_lock(%s)", (_key(_TABLES),))
        RDBStorage(_DIALECT, engine_kwargs=_unpooled(url))


def _unpooled(url: URL) -> dict[str, Any]:
    return {"creator": lambda: _connect(url, "finscale reader"), "poolclass": NullPool}


def reader_storage(url: URL) -> RDBStorage:
    """Open the database to look at a study."""
    return RDBStorage(_DIALECT, engine_kwargs=_unpooled(url), skip_table_creation=True)


def close_storage(study: optuna.Study) -> None:
    """Close the connection to a study, and let go of its lock."""
    _backend(study._storage).engine.dispose()


def set_attributes(storage: BaseStorage, trial_id: int, attributes: Mapping[str, Any]) -> None:
    """Set attributes of a trial in one transaction; Optuna itself makes one for each."""
    backend = _backend(storage)
    with _create_scoped_session(backend.scoped_session) as session:
        for name, value in attributes.items():
            backend._set_trial_attr_without_commit(session, TrialUserAttributeModel, trial_id, name, value)


def _backend(storage: BaseStorage) -> RDBStorage:
    """The storage without the cache that Optuna puts before it."""
    return getattr(storage, "_backend", storage)


def put_aside(url: URL, name: str, new_name: str) -> None:
    """Rename a study, if there is one, so that its name is free for another.

    Raises
    ------
    Fault
        When another driver holds it.
    """
    engine = driver_storage(url, name).engine
    with engine.begin() as connection:
        statement = sqlalchemy.text("UPDATE studies SET study_name = :new WHERE study_name = :old")
        connection.execute(statement, {"new": new_name, "old": name})
    engine.dispose()


def patiently(call: Callable[[], T]) -> T:
    """Return what ``call`` returns, which is made again when the database cuts it off.

    It may have had its effect before it was cut off: it must do no harm the second time.
    """
    for _ in range(_N_CUTS):
        try:
            return call()
        except (StorageInternalError, _MayHaveEntered) as error:
            if not _was_cut_off(error):
                raise
    return call()


def _was_cut_off(error: BaseException) -> bool:
    cause = error.__cause__
    if isinstance(error, _MayHaveEntered):
        return True
    return isinstance(cause, DBAPIError) and cause.connection_invalidated


def _connect(url: URL, application: str) -> Any:
    """Connect once.

    Raises
    ------
    Fault
        With what the server or the network said of it.
    """
    psycopg = _psycopg()
    given = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    ours = {"connect_timeout": _CONNECT_S, "application_name": application[:63], "options": _KEEPALIVES}
    try:
        return psycopg.connect(dbname=url.database, **{**given, **ours, **url.query})
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise Fault(VARIABLE, "name a database that lets us in", said, f"correct it, {_UNSET}") from None


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError:
        rule = "be unset where psycopg is not installed"
        raise Fault(VARIABLE, rule, "a value", "install it with: pip install 'finscale[cluster]'") from None
    return psycopg


class _Connector:
    """Makes the connection of a driver, which holds the lock on its study."""

    def __init__(self, url: URL, name: str) -> None:
        self._url, self._name, self._key = url, name, _key(name)
        self._halves = (self._key >> 32, self._key & 0xFFFFFFFF)
        self._me = f"finscale {os.getpid()} {uuid.uuid4().hex[:8]} {platform.node()}"
        self.patience_s = 0.0

    def __call__(self) -> Any:
        connection = self._connection()
        self._take_lock(connection)
        return connection

    def _connection(self) -> Any:
        """Connect, waiting where a search is under way: its trials train on meanwhile."""
        began, has_said = time.monotonic(), False
        while True:
            try:
                connection = _connect(self._url, self._me)
            except Fault as fault:
                if time.monotonic() - began > self.patience_s:
                    raise
                if not has_said:
                    told = "The study's database does not answer (%s); trials go on, waiting up to %d minutes"
                    _logger.warning(told, fault.got, self.patience_s / 60)
                has_said = True
                time.sleep(_RETRY_S)
                continue
            if has_said:
                _logger.warning("The study's database is back after %.0f s", time.monotonic() - began)
            return connection

    def _take_lock(self, connection: Any) -> None:
        give_up_at = time.monotonic() + _LOCK_S
        # the server may be a moment behind in noticing that the last driver, or our own last line, is gone
        while not self._has_lock(connection):
            connection.execute(_END_OUR_LAST, (*self._halves, self._me))
            if time.monotonic() > give_up_at:
                holder = self._holder(connection)
                connection.close()
                remedy = "wait for it, or stop it: touch STOP in its study's directory"
                raise Fault(f"study {self._name}", "have one driver at a time", holder, remedy)
            time.sleep(0.1)
        connection.commit()

    def _has_lock(self, connection: Any) -> bool:
        return bool(connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key,)).fetchone()[0])

    def _holder(self, connection: Any) -> str:
        found = connection.execute(_HOLDER, self._halves).fetchone()
        pid, host = (found[0].split()[1], found[0].split()[-1]) if found and found[0] else ("?", "?")
        return f"a second driver beside process {pid} on {host}"


_WHO: Final = """
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s
"""
_HOLDER: Final = f"SELECT application_name {_WHO}"
# a line that broke may look whole to the server for a while, and hold the lock
_END_OUR_LAST: Final = f"SELECT pg_terminate_backend(pid) {_WHO} AND application_name = %s"


def _key(name: str) -> int:
    """Return the number of an advisory lock, 63 bits of a hash."""
    return int(content_hash(name, length=16), 16) >> 1
