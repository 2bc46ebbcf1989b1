"""One contract for every kind of store; then what stands in the way of one is told in seconds."""

import logging
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finscale.core.errors import Fault
from finscale.runtime.definition import Paths
from finscale.runtime.shared_store import SharedStore, StoreGone, check_address, require_store
from servers.object_store import SECRET, ObjectStore, running_store

WITHOUT_S3FS = """
import sys
sys.modules["s3fs"] = None
from finscale.runtime.shared_store import require_store
require_store("s3://bucket/prefix")
"""


@pytest.fixture
def own_store() -> Iterator[ObjectStore]:
    """A server that a test may stop."""
    with running_store() as server:
        yield server


def test_what_is_written_under_a_name_is_read_under_it_until_it_is_deleted(
    address: str, tmp_path: Path
) -> None:
    store, sent, fetched = SharedStore(address), tmp_path / "sent", tmp_path / "fetched"
    sent.write_bytes(bytes(range(256)) * 1000)
    assert store.sizes("a") == {}
    store.write("a/b/small", b"12")
    store.put(sent, "a/large")
    store.write("c/other", b"3")
    assert store.sizes("a") == {"a/b/small": 2, "a/large": 256_000}
    assert store.read("a/b/small") == b"12"
    store.get("a/large", fetched)
    assert fetched.read_bytes() == sent.read_bytes()
    store.delete(["a/large", "a/b/small", "absent"])
    assert (store.sizes("a"), store.read("c/other")) == ({}, b"3")
    with pytest.raises(FileNotFoundError):
        store.read("a/large")


def test_a_store_is_tried_without_a_trace(address: str) -> None:
    assert require_store(address) == f"{address} can be written and read"
    assert SharedStore(address).sizes("probe") == {}


@pytest.mark.parametrize(
    "given", [f"s3://user:{SECRET}@host/x", f"s3://bucket/x?key={SECRET}", f"s3://bucket/x#{SECRET}"]
)
def test_an_address_with_a_secret_is_refused_without_repeating_it(given: str) -> None:
    with pytest.raises(Fault, match=r"paths\.shared must hold no credentials.*AWS_SECRET_ACCESS_KEY") as told:
        Paths.read({"data": "data", "shared": given}, subject="paths")
    assert SECRET not in str(told.value)


@pytest.mark.parametrize("given", ["/mnt/x", "s3://", "file:///", "file:///mnt/../x", "a::s3://b/c", "x"])
def test_what_names_no_place_in_a_store_is_refused(given: str) -> None:
    with pytest.raises(Fault, match=r"paths\.shared must .*write s3://bucket/prefix"):
        check_address(given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("s3://absent-bucket/x", r"must exist, got .*bucket does not exist.*create it"),
        ("file:///absent/folder", r"must answer, got .*no such folder: mount or create it on every node"),
        ("carrier-pigeon://x/y", r"must be an address with a protocol"),
        ("pigeon://x/y", r"must have a known protocol, got 'pigeon://x/y'; write s3://"),
    ],
)
def test_a_place_that_is_not_there_is_told_in_seconds(
    object_store: ObjectStore, given: str, told: str
) -> None:
    started = time.monotonic()
    with pytest.raises(Fault, match=rf"paths\.shared {told}"):
        require_store(given)
    assert time.monotonic() - started < 12


def test_a_key_that_is_not_known_is_told_with_the_remedy(object_store: ObjectStore) -> None:
    from moto.core.authorization import enable_iam_authentication

    with (
        enable_iam_authentication(),
        pytest.raises(Fault, match=r"must let us read and write.*Access Key Id.*correct the cred") as told,
    ):
        require_store(object_store.new_address())
    assert SECRET not in str(told.value)


def test_a_store_that_may_not_be_written_is_told(object_store: ObjectStore, tmp_path: Path) -> None:
    object_store.client().create_bucket(Bucket="readable")
    policy = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*",'
        ' "Action": "s3:PutObject", "Resource": "arn:aws:s3:::readable/*"}]}'
    )
    object_store.client().put_bucket_policy(Bucket="readable", Policy=policy)
    with pytest.raises(Fault, match=r"paths\.shared must let us read and write"):
        require_store("s3://readable/x")


def test_without_s3fs_the_extra_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_S3FS], capture_output=True, text=True)
    assert "must have a protocol that is installed" in done.stderr
    assert "pip install 'finscale[s3]'" in done.stderr


def test_a_call_waits_for_a_store_that_is_away_and_says_so_once(
    own_store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = SharedStore(own_store.new_address(), patience_s=60)
    store.write("name", b"before")
    own_store.stop()
    back = threading.Timer(6, own_store.start)
    back.start()
    with caplog.at_level(logging.WARNING, logger="finscale"):
        store.write("name", b"after")
    back.join()
    assert store.read("name") == b"after"
    said = [record.message for record in caplog.records if record.name.startswith("finscale")]
    assert len(said) == 2
    assert "does not answer" in said[0]
    assert "work goes on, waiting up to 1 minutes" in said[0]
    assert "is back after" in said[1]
    assert SECRET not in caplog.text


def test_a_store_that_stays_away_is_given_up_with_an_error_of_its_own(own_store: ObjectStore) -> None:
    store = SharedStore(own_store.new_address(), patience_s=1)
    own_store.stop()
    started = time.monotonic()
    with pytest.raises(StoreGone, match=r"paths\.shared must answer, got s3://shared.*AWS_ENDPOINT_URL"):
        store.read("name")
    assert 1 < time.monotonic() - started < 15
    own_store.start()


def test_what_travels_to_a_node_holds_no_secret(object_store: ObjectStore) -> None:
    store = SharedStore(object_store.new_address())
    store.write("name", b"content")
    pickled = pickle.dumps(store)
    assert SECRET.encode() not in pickled
    again: Any = pickle.loads(pickled)
    assert again.read("name") == b"content"
