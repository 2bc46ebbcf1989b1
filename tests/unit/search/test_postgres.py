"""Studies in PostgreSQL: one driver each, whatever is cut off; and the password stays where it is."""

import contextlib
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import psycopg
import pytest
from optuna.trial import TrialState
from search_toys import IDENTITY, PARTS, SearchEvent, drive
from sqlalchemy.event import listen, remove
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from toy_trials import wait_until

from finscale.core.errors import Fault
from finscale.search.config import SearchConfig
from finscale.search.database import VARIABLE, _Connector, close_storage, database, require_database
from finscale.search.groups import free_port
from finscale.search.ledger import Ledger
from finscale.search.outcomes import TrialOutcome
from finscale.search.study import (
    STUDY_FILE,
    StudyIdentity,
    archive_study,
    has_study,
    load_study,
    open_study,
    refuse_other_machines,
)
from servers.postgres import PASSWORD, Server

SIX = SearchConfig(n_trials=6, n_random=2, executor="inline")
HOLD = """
import sys, time
from pathlib import Path
from search_toys import IDENTITY
from finscale.search.study import open_study
study = open_study(Path(sys.argv[1]), name="s", identity=IDENTITY, attributes={})
print("held", flush=True)
time.sleep(120)
"""


def open_s(directory: Path) -> optuna.Study:
    return open_study(directory, name="s", identity=IDENTITY, attributes={})


def written(directory: Path) -> str:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return "".join(path.read_bytes().decode(errors="replace") for path in files)


# -- where studies are kept ----------------------------------------------------------------------------------


def test_a_search_keeps_its_study_in_the_database_and_a_pointer_beside_its_trials(
    tmp_path: Path, postgres: Server
) -> None:
    result, study = drive(tmp_path, config=SIX, behaviours={1: float("nan"), 2: "oom above 40"})
    close_storage(study)
    assert result.outcome == "complete"
    assert not (tmp_path / STUDY_FILE).exists()
    assert has_study(tmp_path)
    found = load_study(tmp_path)
    assert [trial.number for trial in found.trials] == list(range(6))
    states = [trial.state for trial in found.trials]
    assert states.count(TrialState.COMPLETE) == 5
    assert found.trials[2].user_attrs["n_halvings"] == 2
    assert PASSWORD not in written(tmp_path)


def test_a_study_stays_where_it_began(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_in_database, begun_in_file = tmp_path / "database", tmp_path / "file"
    close_storage(open_s(begun_in_database))
    monkeypatch.delenv(VARIABLE)
    for attempt in (lambda: open_s(begun_in_database), lambda: load_study(begun_in_database)):
        with pytest.raises(Fault, match=f"{VARIABLE} must be set .*no such variable"):
            attempt()
    open_s(begun_in_file)
    monkeypatch.setenv(VARIABLE, postgres.url())
    with pytest.raises(Fault, match=rf"{VARIABLE} must be unset .*study\.db.*hpo\.restart=true") as refused:
        open_s(begun_in_file)
    assert PASSWORD not in str(refused.value)


def test_a_restart_begins_again_and_the_archive_keeps_the_trials(tmp_path: Path, postgres: Server) -> None:
    _, study = drive(tmp_path, config=SIX)
    close_storage(study)
    target = archive_study(tmp_path, name="toy")
    assert target is not None
    _, study = drive(tmp_path, config=SearchConfig(n_trials=2, n_random=1, executor="inline"))
    close_storage(study)
    assert len(load_study(tmp_path).trials) == 2
    assert len(load_study(target).trials) == 6
    assert load_study(target).study_name.startswith("toy until 20")


def test_a_study_of_another_identity_is_refused_and_let_go(tmp_path: Path, postgres: Server) -> None:
    close_storage(open_s(tmp_path))
    other = StudyIdentity(**{**PARTS, "grid": "changed"})
    with pytest.raises(Fault, match="another grid") as refused:
        open_study(tmp_path, name="s", identity=other, attributes={})
    close_storage(open_s(tmp_path))
    # its frames live to here, and with them all that they held
    assert refused.tb is not None


# -- one driver ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def another_driver(directory: Path) -> subprocess.Popen:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            yield holder
        finally:
            holder.kill()


def test_a_second_driver_is_refused_whatever_its_directory_until_the_first_is_killed(
    tmp_path: Path, postgres: Server
) -> None:
    with another_driver(tmp_path / "one") as holder:
        refusal = (
            rf"study s must have one driver at a time, got a second driver beside process {holder.pid} on"
        )
        with pytest.raises(Fault, match=refusal):
            open_s(tmp_path / "two")
        with pytest.raises(Fault, match=refusal):
            archive_study(tmp_path / "two", name="s")
        open_study(tmp_path / "other", name="another", identity=IDENTITY, attributes={})
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    close_storage(open_s(tmp_path / "two"))


def test_a_reader_is_not_refused_and_takes_nothing(tmp_path: Path, postgres: Server) -> None:
    with another_driver(tmp_path):
        assert load_study(tmp_path).trials == []


def test_a_driver_whose_line_broke_takes_its_lock_back_from_the_dead_line(postgres: Server) -> None:
    url = database()
    assert url is not None
    connector = _Connector(url, "s")
    dead_line = connector()
    connector().close()
    with pytest.raises(psycopg.OperationalError):
        dead_line.execute("SELECT 1")


def test_a_driver_that_lost_its_lock_to_another_writes_nothing_more(tmp_path: Path, postgres: Server) -> None:
    study = open_s(tmp_path)
    ledger = Ledger(study)
    ledger.enter({}, {}, {"kind": "random"})
    cut_off(postgres)
    with another_driver(tmp_path / "two"), pytest.raises(Fault, match="one driver at a time"):
        ledger.tell(0, TrialOutcome(outcome="complete", value=0.5))
    assert load_study(tmp_path).trials[0].state == TrialState.RUNNING


# -- a database that goes away -------------------------------------------------------------------------------


def cut_off(server: Server) -> None:
    """End every session but this one."""
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'studies'", "postgres"
    )


@pytest.mark.parametrize("has_had_its_effect", [False, True])
def test_what_is_cut_off_is_done_again_and_nothing_twice(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch, has_had_its_effect: bool
) -> None:
    study, commit, turns = open_s(tmp_path), Session.commit, itertools.count()

    def cut_every_other(session: Session) -> None:
        """Of the writes alone: reads end in a commit as well."""
        has_flushed = session.info.pop("wrote", False)
        is_write = bool(has_flushed or session.new or session.dirty)
        if not is_write or next(turns) % 2:
            return commit(session)
        if has_had_its_effect:
            commit(session)
            raise OperationalError("COMMIT", {}, Exception("cut off"), connection_invalidated=True)
        session.flush()
        session.info.pop("wrote", None)
        cut_off(postgres)
        return commit(session)

    def remember(session: Session, *_: object) -> None:
        session.info["wrote"] = True

    listen(Session, "after_flush", remember)
    monkeypatch.setattr(Session, "commit", cut_every_other)
    ledger = Ledger(study)
    for number in range(2):
        ledger.enter({}, {}, {"kind": "random"})
        ledger.record(number, {"outcome": "complete"})
        ledger.tell(number, TrialOutcome(outcome="complete", value=float(number)))
    monkeypatch.undo()
    remove(Session, "after_flush", remember)
    monkeypatch.setenv(VARIABLE, postgres.url())
    assert next(turns) >= 6
    found = load_study(tmp_path).trials
    assert [(trial.number, trial.value) for trial in found] == [(0, 0.0), (1, 1.0)]
    assert [trial.user_attrs for trial in found] == [{"kind": "random", "outcome": "complete"}] * 2


def test_a_search_waits_while_its_database_is_away_and_says_so_once(
    tmp_path: Path, postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    back = threading.Timer(3.0, postgres.start)

    def stop_the_database(event: SearchEvent) -> None:
        if event.kind == "progress" and event.number == 1 and not back.is_alive():
            postgres.stop()
            back.start()

    with caplog.at_level(logging.WARNING):
        result, study = drive(tmp_path, config=SIX, on_event=stop_the_database)
    close_storage(study)
    back.join()
    assert (result.outcome, len(study.trials)) == ("complete", 6)
    assert {trial.state for trial in load_study(tmp_path).trials} == {TrialState.COMPLETE}
    assert caplog.text.count("database does not answer") == 1
    assert caplog.text.count("database is back after") == 1
    assert PASSWORD not in caplog.text


# -- what is refused before the first trial ------------------------------------------------------------------


def test_a_database_that_does_not_let_us_in_is_told_in_seconds_and_without_the_password(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://finscale:{PASSWORD}@127.0.0.1:{free_port('127.0.0.1')}/studies"
    wrong = {
        postgres.url(password=f"{PASSWORD}-not"): "password authentication failed",
        postgres.url(database="absent"): 'database "absent" does not exist',
        url: "Connection refused",
    }
    for address, said in wrong.items():
        monkeypatch.setenv(VARIABLE, address)
        started = time.monotonic()
        with pytest.raises(Fault, match=f"{VARIABLE} must name a database that lets us in, .*{said}") as told:
            require_database()
        assert time.monotonic() - started < 8
        assert PASSWORD not in str(told.value)
        assert told.value.__cause__ is None


def test_a_database_that_answers_is_named_without_its_password(postgres: Server) -> None:
    assert require_database() == "the database studies at 127.0.0.1"


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        (f"sqlite:////tmp/{PASSWORD}.db", "a SQLite file cannot be shared by drivers on several machines"),
        (f"mysql://me:{PASSWORD}@host/studies", "name a PostgreSQL database, got 'mysql'"),
        (f"postgresql://me:{PASSWORD}@host", "name a PostgreSQL database"),
        (f"{PASSWORD}", "be the address of a database"),
    ],
)
def test_what_is_no_postgresql_database_is_refused_with_the_form(
    monkeypatch: pytest.MonkeyPatch, address: str, rule: str
) -> None:
    monkeypatch.setenv(VARIABLE, address)
    with pytest.raises(Fault, match=rule) as refused:
        require_database()
    assert "write postgresql://user:password@host:5432/database" in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_without_psycopg_the_extra_is_named(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(Fault, match=r"pip install 'finscale\[cluster\]'"):
        require_database()


def test_a_file_that_another_machine_drives_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    refuse_other_machines(tmp_path)
    holder = '{"pid": 12, "host": "another", "boot": "another", "since": "2026-01-31"}'
    (tmp_path / "study.db.lock").write_text(holder)
    with pytest.raises(Fault, match=rf"process 12 on another .*delete study\.db\.lock .*{VARIABLE}"):
        refuse_other_machines(tmp_path)
    (tmp_path / "study.db.lock").write_text(
        holder.replace('"host": "another"', f'"host": "{os.uname().nodename}"')
    )
    refuse_other_machines(tmp_path)


def test_a_driver_that_ended_leaves_no_name_and_a_killed_one_does(tmp_path: Path) -> None:
    from finscale.search.study import lease

    with contextlib.suppress(KeyError), lease(tmp_path):
        raise KeyError
    assert (tmp_path / "study.db.lock").read_text() == ""
    code = "import os,sys; from pathlib import Path; from finscale.search.study import lease\n"
    code += "with lease(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert '"pid"' in (tmp_path / "study.db.lock").read_text()


def test_the_tables_are_made_once_by_drivers_that_begin_together(tmp_path: Path, postgres: Server) -> None:
    words = [sys.executable, "-c", HOLD.replace('"s"', "sys.argv[2]")]
    drivers = [
        subprocess.Popen([*words, str(tmp_path / name), name], stdout=subprocess.PIPE) for name in "abc"
    ]
    try:
        for driver in drivers:
            assert driver.stdout is not None
            assert driver.stdout.readline() == b"held\n"
    finally:
        for driver in drivers:
            driver.kill()
            driver.wait()
    assert postgres.execute("SELECT count(*) FROM studies", "studies") == [(3,)]


def test_a_lock_is_freed_as_soon_as_its_holder_is_gone(tmp_path: Path, postgres: Server) -> None:
    close_storage(open_s(tmp_path))
    wait_until(lambda: _n_locks(postgres) == 0, seconds=5)


def _n_locks(server: Server) -> int:
    with psycopg.connect(server.url()) as connection:
        found = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
        assert found is not None
        return found[0]
