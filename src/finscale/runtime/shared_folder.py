"""A folder in a shared store: blobs, each sent once under a name of its own, and manifests that list them.

A manifest is written after the blobs that it lists, and the newest one that is whole is the folder: who dies
while sending leaves the one before. Manifests are ordered by attempt and then by number, so that an attempt
that was given up as lost and still sends is never taken for its successor.
"""

import hashlib
import itertools
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal
from uuid import uuid4

from pydantic import ValidationError, field_validator

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.core.files import replacing
from finscale.core.hashing import file_hash
from finscale.runtime.shared_store import SharedStore

__all__ = ["STAYS", "Pusher", "files_of", "holds", "pull"]

STAYS: Final = (".lock", ".staging.json")
"""Files of a directory that belong to the machine on which they lie."""

_KEPT: Final = 2
_MANIFEST: Final = re.compile(r"/manifests/\d{6}-\d{6}-[0-9a-f]{16}\.json$")
_logger = logging.getLogger(__name__)


class _File(Record):
    blob: str
    n_bytes: int
    sha256: str


class _Manifest(Record):
    """The files of a folder, by their paths in it."""

    format: Literal["finscale-folder-1"] = "finscale-folder-1"
    files: dict[str, _File]

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, _File]) -> dict[str, _File]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise Fault("a staged file", "have a name inside its folder", name)
        return files


@dataclass(frozen=True)
class _Version:
    """A manifest in the store, and who wrote it."""

    attempt: int
    number: int
    manifest: _Manifest

    def name(self) -> str:
        """Return its name, which holds its digest: a manifest that was written in part is known by it."""
        return f"{self.attempt:06d}-{self.number:06d}-{_digest(self.content())[:16]}.json"

    def content(self) -> bytes:
        return self.manifest.model_dump_json().encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _versions(store: SharedStore, key: str) -> tuple[Iterator[_Version], dict[str, int]]:
    """Return the whole versions of a folder, newest first, and the sizes of what the store holds of it."""
    sizes = store.sizes(key)

    def read() -> Iterator[_Version]:
        for name in sorted(_manifests(sizes), reverse=True):
            version = _read_version(store, name)
            if version is not None and _has_all(version.manifest, sizes):
                yield version

    return read(), sizes


def _manifests(names: Iterable[str]) -> list[str]:
    """Return the manifests among files, whatever else someone put there."""
    return [name for name in names if _MANIFEST.search(name)]


def _read_version(store: SharedStore, name: str) -> _Version | None:
    try:
        content = store.read(name)
    except FileNotFoundError:
        return None
    attempt, number, digest = PurePosixPath(name).stem.split("-")
    if _digest(content)[:16] != digest:
        return None
    try:
        return _Version(int(attempt), int(number), _Manifest.model_validate_json(content))
    except ValidationError:
        return None


def _has_all(manifest: _Manifest, sizes: Mapping[str, int]) -> bool:
    return all(sizes.get(file.blob) == file.n_bytes for file in manifest.files.values())


def holds(store: SharedStore, key: str) -> bool:
    """Whether the store has a whole version of a folder."""
    versions, _ = _versions(store, key)
    return any(True for _ in versions)


def pull(store: SharedStore, key: str, local: Path) -> bool:
    """Make a directory what the store's folder is: files that the folder does not hold are deleted.

    All are fetched beside it and checked by size and digest before the first is put in place; of a folder
    that is damaged, an earlier version is taken.

    Returns
    -------
    bool
        False where the store has no such folder; the directory is then as it was.
    """
    versions, _ = _versions(store, key)
    fetched = local.with_name(f".{local.name}.fetched")
    for version in versions:
        shutil.rmtree(fetched, ignore_errors=True)
        if _fetch(store, version.manifest, fetched):
            _replace(local, fetched, set(version.manifest.files))
            return True
        _logger.warning("A version of %s in %s is damaged: the one before is taken", key, store.address)
    return False


def _fetch(store: SharedStore, manifest: _Manifest, directory: Path) -> bool:
    directory.mkdir(parents=True)
    for name, file in manifest.files.items():
        path = directory / name
        try:
            with replacing(path) as temporary:
                store.get(file.blob, temporary)
        except FileNotFoundError:
            return False
        if path.stat().st_size != file.n_bytes or file_hash(path) != file.sha256:
            return False
    return True


def _replace(local: Path, fetched: Path, names: set[str]) -> None:
    for name in names:
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(fetched / name, local / name)
    for name, path in files_of(local).items():
        if name not in names:
            path.unlink()
    shutil.rmtree(fetched)


def files_of(directory: Path) -> dict[str, Path]:
    """Files of a trial's directory that travel, by name; not those that are being written, nor locks."""
    return {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in STAYS and not path.name.endswith(".tmp")
    }


class Pusher:
    """Sends a folder to the store, again and again as it changes; what did not change is not sent again.

    It begins a new attempt, whose versions stand before those of all earlier ones, and deletes what it knows
    of and no longer needs.
    """

    def __init__(self, store: SharedStore, key: str) -> None:
        self._store, self._key = store, key
        versions, sizes = _versions(store, key)
        self._attempt, self._number = 1 + _last_attempt(sizes), 0
        self._kept = list(itertools.islice(versions, 1))
        self._known = set(sizes)
        self._files = dict(self._kept[0].manifest.files) if self._kept else {}
        self._signatures: dict[str, tuple[int, ...]] = {}

    def push(self, files: Mapping[str, Path]) -> bool:
        """Send what changed, and then the new manifest; False where a later attempt has taken over.

        Parameters
        ----------
        files : mapping
            All files of the folder, by their names in it.
        """
        if _last_attempt(self._store.sizes(f"{self._key}/manifests")) > self._attempt:
            return False
        before = self._files
        self._files = {name: self._send(name, path) for name, path in files.items()}
        if self._number == 0 or self._files != before:
            self._number += 1
            version = _Version(self._attempt, self._number, _Manifest(files=self._files))
            self._write(version)
            self._kept = [version, *self._kept][:_KEPT]
            self._drop_what_is_no_longer_needed()
        return True

    def _send(self, name: str, path: Path) -> _File:
        """Send a file, unless it is the one that was sent last under its name."""
        found, last = path.stat(), self._files.get(name)
        signature = (found.st_ino, found.st_size, found.st_mtime_ns)
        if last is not None and self._signatures.get(name) == signature:
            return last
        digest = file_hash(path)
        if last is None or last.sha256 != digest:
            blob = f"{self._key}/blobs/{uuid4().hex}"
            self._known.add(blob)
            self._store.put(path, blob)
            last = _File(blob=blob, n_bytes=found.st_size, sha256=digest)
        self._signatures[name] = signature
        return last

    def _write(self, version: _Version) -> None:
        name = self._name(version)
        self._known.add(name)
        self._store.write(name, version.content())

    def _name(self, version: _Version) -> str:
        return f"{self._key}/manifests/{version.name()}"

    def _drop_what_is_no_longer_needed(self) -> None:
        needed = {self._name(version) for version in self._kept}
        needed |= {file.blob for version in self._kept for file in version.manifest.files.values()}
        self._store.delete(sorted(self._known - needed))
        self._known &= needed


def _last_attempt(names: Iterable[str]) -> int:
    """Return the highest attempt that wrote a manifest among these files; 0 of none."""
    written = [PurePosixPath(name).name for name in _manifests(names)]
    return max((int(name.partition("-")[0]) for name in written), default=0)
