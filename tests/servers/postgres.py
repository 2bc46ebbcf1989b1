"""A PostgreSQL server of the tests' own: on loopback, in a temporary place, run by an unprivileged user."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from finscale.search.groups import free_port

PASSWORD = "correct-horse-battery"
"""What no file, log or message may ever hold."""


def program(name: str) -> str:
    """Where a program of PostgreSQL is, or a skip that says it is missing."""
    found = shutil.which(name) or next(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), None)
    if found is None:
        pytest.skip("PostgreSQL is not installed")
    return found


def unprivileged() -> dict[str, Any]:
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@dataclass
class Server:
    """A server that can be stopped and started again."""

    directory: Path
    port: int = field(default_factory=lambda: free_port("127.0.0.1"))
    process: subprocess.Popen | None = None

    def url(self, database: str = "studies", password: str = PASSWORD) -> str:
        return f"postgresql://finscale:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = [f"-cunix_socket_directories={self.directory}", "-clisten_addresses=127.0.0.1"]
        settings = ["-cfsync=off", "-cshared_buffers=16MB"]
        command = [program("postgres"), "-D", str(self.directory / "data"), f"-p{self.port}"]
        self.process = subprocess.Popen(
            [*command, *options, *settings], stderr=subprocess.DEVNULL, cwd=self.directory, **unprivileged()
        )
        self._wait()

    def _wait(self) -> None:
        import psycopg

        give_up_at = time.monotonic() + 60
        while time.monotonic() < give_up_at:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres")).close()
                return
            time.sleep(0.1)
        raise TimeoutError("PostgreSQL did not start")

    def execute(self, statement: str, database: str = "postgres") -> list[tuple]:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def empty(self) -> None:
        """Begin with a database without tables."""
        self.execute("DROP DATABASE IF EXISTS studies WITH (FORCE)")
        self.execute("CREATE DATABASE studies")

    def stop(self) -> None:
        """End every session at once."""
        if self.process is not None:
            self.process.send_signal(2)
            self.process.wait(30)
            self.process = None


@contextmanager
def running_server() -> Iterator[Server]:
    pytest.importorskip("psycopg", reason="the extra [cluster] is not installed")
    initdb = program("initdb")
    directory = Path(tempfile.mkdtemp(prefix="finscale-pg-"))
    server = Server(directory)
    try:
        (directory / "password").write_text(PASSWORD)
        if identity := unprivileged():
            for path in (directory, directory / "password"):
                os.chown(path, identity["user"], identity["group"])
        command = [initdb, "-D", str(directory / "data"), "-U", "finscale", "-A", "scram-sha-256", "-N"]
        asked = [f"--pwfile={directory / 'password'}", "--no-locale", "-EUTF8"]
        subprocess.run([*command, *asked], check=True, capture_output=True, cwd=directory, **identity)
        (directory / "password").unlink()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
