"""Atomic files: a reader sees the old content or the new, never half of either."""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from finscale.core.errors import Fault

__all__ = ["append_line", "read_json", "replacing", "write_json", "write_text"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``; on success flush it to disk and rename it into place.

    Raises
    ------
    Fault
        When the disk is full; ``path`` is as it was.
    """
    with _full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """Tell a full disk, quota or file-size limit from other errors; not every library raises OSError."""
    try:
        yield
    except Exception as error:
        if any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
            remedy = "make room and run again: what was there before is whole"
            raise Fault(str(path), "fit on its disk", str(error), remedy) from error
        raise


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, default: Callable[[Any], Any] | None = None) -> None:
    """Write ``value`` as indented JSON atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=default) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append a line and hand it to the system; what a kill left of a last line is dropped first.

    Of one writer at a time.
    """
    with _full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            _drop_half_a_line(file)
            file.write(f"{line}\n".encode())


def _drop_half_a_line(file: BinaryIO) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    if file.read() not in (b"", b"\n"):
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def read_json(path: Path, *, remedy: str = "delete it and run again") -> Any:
    """Read JSON; a missing or broken file is the user's kind of error, with a remedy."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Fault(str(path), "exist", "no such file", remedy) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Fault(str(path), "be valid JSON", str(error), remedy) from None
