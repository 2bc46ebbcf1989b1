"""An object store of the tests' own: S3 on loopback, in a thread; it forgets nothing while it is away."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from finscale.search.groups import free_port

SECRET = "battery-horse-correct"
"""What no file, log, message or task may ever hold."""

BUCKET = "shared"
_prefixes = itertools.count()


@dataclass
class ObjectStore:
    """A server that can be stopped and started again."""

    port: int = field(default_factory=lambda: free_port("127.0.0.1"))
    server: Any = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_address(self) -> str:
        return f"s3://{BUCKET}/prefix-{next(_prefixes)}"

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()

    def stop(self) -> None:
        self.server.stop()
        self.server._server.server_close()

    def names(self, address: str) -> list[str]:
        """Keys below an address, as the server holds them."""
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        found = self.client().list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])
        return [entry["Key"].removeprefix(f"{prefix}/") for entry in found]

    def contents(self, address: str) -> dict[str, bytes]:
        """Objects below an address."""
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        get = self.client().get_object
        return {
            name: get(Bucket=bucket, Key=f"{prefix}/{name}")["Body"].read() for name in self.names(address)
        }

    def client(self, service: str = "s3") -> Any:
        import boto3

        return boto3.client(service, endpoint_url=self.endpoint)


@contextmanager
def running_store() -> Iterator[ObjectStore]:
    s3fs = pytest.importorskip("s3fs", reason="the extra [s3] is not installed")
    pytest.importorskip("moto", reason="the extra [dev] is not installed")
    store = ObjectStore()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", store.endpoint)
        environment.setenv("AWS_ACCESS_KEY_ID", "finscale")
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        store.start()
        store.client().create_bucket(Bucket=BUCKET)
        # what a process has read from its environment it keeps
        s3fs.S3FileSystem.clear_instance_cache()
        yield store
        s3fs.S3FileSystem.clear_instance_cache()
        store.stop()
