"""A folder in a store is always one that was there: whole, of the last attempt, and nothing else."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finscale.runtime.shared_folder import Pusher, files_of, holds, pull
from finscale.runtime.shared_store import SharedStore, StoreGone

KEY = "trials/one"
ENDLESS = """
import sys
from pathlib import Path
from finscale.runtime.shared_folder import Pusher, files_of
from finscale.runtime.shared_store import SharedStore
folder, pusher = Path(sys.argv[2]), Pusher(SharedStore(sys.argv[1]), sys.argv[3])
for generation in range(10_000):
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(b"%09d" % generation * 100_000)
    pusher.push(files_of(folder))
    print(generation, flush=True)
"""


@pytest.fixture
def store(address: str) -> SharedStore:
    return SharedStore(address, patience_s=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "folder", {"best.safetensors": "1", "checkpoints/step_1.json": "{}", "log": ""})


def written(folder: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {name: path.read_text() for name, path in files_of(folder).items()}


def pulled(store: SharedStore, place: Path) -> dict[str, str] | None:
    return contents(place) if pull(store, KEY, place) else None


def blobs(store: SharedStore) -> set[str]:
    return set(store.sizes(f"{KEY}/blobs"))


def count_calls(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[int], None]) -> None:
    """Have ``act`` called with 0, 1, ... before every call of a method of stores."""
    real, numbers = getattr(SharedStore, name), itertools.count()

    def called(*arguments: Any) -> Any:
        act(next(numbers))
        return real(*arguments)

    monkeypatch.setattr(SharedStore, name, called)


def test_what_was_pushed_is_pulled_and_what_was_deleted_goes(
    store: SharedStore, folder: Path, tmp_path: Path
) -> None:
    place, pusher = tmp_path / "place", Pusher(store, KEY)
    assert not holds(store, KEY)
    assert not pull(store, KEY, place)
    assert pusher.push(files_of(folder))
    assert holds(store, KEY)
    assert pulled(store, place) == contents(folder)
    (folder / "best.safetensors").unlink()
    written(folder, {"log": "more", "new": "2"})
    pusher.push(files_of(folder))
    assert (
        pulled(store, place)
        == contents(folder)
        == {"checkpoints/step_1.json": "{}", "log": "more", "new": "2"}
    )


def test_what_belongs_to_a_machine_neither_travels_nor_is_deleted(
    store: SharedStore, folder: Path, tmp_path: Path
) -> None:
    written(folder, {".lock": "here", ".staging.json": "here", ".log.x1.tmp": "half"})
    place = written(tmp_path / "place", {".lock": "there", "stale": "there"})
    Pusher(store, KEY).push(files_of(folder))
    pull(store, KEY, place)
    assert (place / ".lock").read_text() == "there"
    assert not {".staging.json", ".log.x1.tmp", "stale"} & {path.name for path in place.iterdir()}


def test_only_what_changed_is_sent_and_only_what_is_needed_stays(
    store: SharedStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    count_calls(monkeypatch, "put", sent.append)
    pusher = Pusher(store, KEY)
    pusher.push(files_of(folder))
    assert len(sent) == 3
    for number in range(5):
        written(folder, {"log": str(number)})
        pusher.push(files_of(folder))
        pusher.push(files_of(folder))
    assert len(sent) == 3 + 5
    assert len(blobs(store)) == 4
    assert len(store.sizes(f"{KEY}/manifests")) == 2
    Pusher(store, KEY).push(files_of(folder))
    assert len(sent) == 3 + 5


def test_who_dies_at_any_moment_of_a_push_leaves_one_version_or_the_other(
    store: SharedStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = {"best.safetensors": "2", "log": "more", "new": "3"}
    seen = []
    for moment in range(9):
        with monkeypatch.context() as patch:
            Pusher(store, KEY).push(files_of(folder))
            old, pusher = contents(folder), Pusher(store, KEY)
            (folder / "checkpoints/step_1.json").unlink(missing_ok=True)
            written(folder, {name: f"{text} {moment}" for name, text in after.items()})
            numbers = itertools.count()

            def die(_: int, moment: int = moment, numbers: Any = numbers) -> None:
                if next(numbers) == moment:
                    raise KeyboardInterrupt

            for name in ("put", "write", "delete", "sizes", "read"):
                count_calls(patch, name, die)
            try:
                pusher.push(files_of(folder))
            except KeyboardInterrupt:
                seen.append(moment)
        assert pulled(store, tmp_path / "place") in (old, contents(folder))
    assert len(seen) >= 5


@pytest.mark.parametrize("part", ["manifests", "blobs"])
@pytest.mark.parametrize("harm", [lambda content: content[:-1], lambda content: content[:-1] + b"\0"])
def test_of_a_version_that_is_damaged_the_one_before_is_taken(
    store: SharedStore, folder: Path, tmp_path: Path, part: str, harm: Callable[[bytes], bytes]
) -> None:
    pusher = Pusher(store, KEY)
    pusher.push(files_of(folder))
    old, former = contents(folder), set(store.sizes(f"{KEY}/{part}"))
    written(folder, {"log": "more"})
    pusher.push(files_of(folder))
    (new,) = set(store.sizes(f"{KEY}/{part}")) - former
    store.write(new, harm(store.read(new)))
    assert pulled(store, tmp_path / "place") == old


def test_a_manifest_that_was_changed_and_a_blob_that_is_not_there_are_noticed(
    store: SharedStore, folder: Path
) -> None:
    Pusher(store, KEY).push(files_of(folder))
    (manifest,), blob = store.sizes(f"{KEY}/manifests"), min(blobs(store))
    content = store.read(manifest)
    store.write(manifest, content.replace(b'"log"', b'"lag"'))
    assert not holds(store, KEY)
    store.write(manifest, content)
    assert holds(store, KEY)
    store.delete([blob])
    assert not holds(store, KEY)


def test_a_store_that_goes_away_while_it_is_read_is_not_taken_for_an_empty_one(
    store: SharedStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pusher(store, KEY).push(files_of(folder))

    def gone(*_: Any) -> bytes:
        raise StoreGone("paths.shared", "answer", store.address)

    for name in ("sizes", "read", "get"):
        with monkeypatch.context() as patch, pytest.raises(StoreGone):  # noqa: PT012
            patch.setattr(SharedStore, name, gone)
            pull(store, KEY, tmp_path / "place")


def test_a_file_that_someone_else_put_there_is_passed_over(
    store: SharedStore, folder: Path, tmp_path: Path
) -> None:
    store.write(f"{KEY}/manifests/notes.txt", b"mine")
    Pusher(store, KEY).push(files_of(folder))
    store.write(f"{KEY}/manifests/zzz", b"mine")
    assert pulled(store, tmp_path / "place") == contents(folder)


def test_an_attempt_that_was_given_up_cannot_take_the_place_of_its_successor(
    store: SharedStore, folder: Path, tmp_path: Path
) -> None:
    first = Pusher(store, KEY)
    first.push(files_of(folder))
    for number in range(3):
        written(folder, {"log": f"first {number}"})
        first.push(files_of(folder))
    second = Pusher(store, KEY)
    written(folder, {"log": "second"})
    assert second.push(files_of(folder))
    written(folder, {"log": "first again"})
    assert not first.push(files_of(folder))
    found = pulled(store, tmp_path / "place")
    assert found is not None
    assert found["log"] == "second"


@pytest.mark.parametrize("name", ["../outside", "/tmp/finscale-outside", "a/../../outside", "inside"])
def test_a_name_that_leads_out_of_its_folder_is_not_believed(
    store: SharedStore, tmp_path: Path, name: str
) -> None:
    blob, content = f"{KEY}/blobs/1", b"harm"
    store.write(blob, content)
    file = {"blob": blob, "n_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = json.dumps({"files": {name: file}}).encode()
    mark = hashlib.sha256(manifest).hexdigest()[:16]
    store.write(f"{KEY}/manifests/000001-000001-{mark}.json", manifest)
    assert pull(store, KEY, tmp_path / "place") is (name == "inside")
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/finscale-outside").exists()


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_a_process_that_is_killed_while_it_sends_leaves_a_whole_folder(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "store").mkdir()
    is_file = kind == "file"
    address = f"file://{tmp_path}/store" if is_file else request.getfixturevalue("object_store").new_address()
    for attempt in range(2):
        folder = tmp_path / f"folder_{attempt}"
        folder.mkdir()
        words = [sys.executable, "-c", ENDLESS, address, str(folder), KEY]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(2):
                assert child.stdout.readline()
            time.sleep(0.02 + 0.05 * attempt)
            os.kill(child.pid, signal.SIGKILL)
            last = max([1, *map(int, child.stdout.read().split())])
        place = tmp_path / "place"
        assert pull(SharedStore(address), KEY, place)
        found = {path.read_bytes() for path in files_of(place).values()}
        assert len(found) == 1
        assert int(found.pop()[:9]) in (last, last + 1)
