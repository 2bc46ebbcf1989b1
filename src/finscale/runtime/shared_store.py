"""A store that all nodes reach: a folder of a shared file system, or a part of a bucket of an object store.

Addresses are fsspec's (``s3://bucket/prefix``, ``file:///mnt/shared``). Credentials come from the environment
of each process and are in no address, message or pickled task.
"""

import contextlib
import errno
import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from finscale.core.errors import Fault

__all__ = ["SUBJECT", "SharedStore", "StoreGone", "check_address", "require_store"]

T = TypeVar("T")

SUBJECT: Final = "paths.shared"
_FORM: Final = "write s3://bucket/prefix or file:///mnt/shared, or null where all nodes see paths.data"
_ENVIRONMENT: Final = "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, not for AWS, AWS_ENDPOINT_URL"
_PATIENCE_S: Final = 600.0
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0
# those of s3fs itself, which tries a few times; botocore below it would multiply them
_S3: Final = {"config_kwargs": {"retries": {"max_attempts": 0}}}
_OPTIONS: Final[dict[str, dict[str, Any]]] = {"s3": _S3, "s3a": _S3, "file": {"auto_mkdir": True}}
_NETWORK: Final = ("botocore.", "aiobotocore.", "aiohttp.", "asyncio.", "fsspec.")
_CREDENTIALS: Final = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "TokenRetrievalError",
)
_LASTING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_SECRETS: Final = re.compile(r"(?<=://)[^/\s@]*@|\?[^\s\"']*")
_logger = logging.getLogger(__name__)


class StoreGone(Fault):
    """A store that has not answered for as long as one waits: a fault of the place, not of the work."""


def check_address(address: str) -> str:
    """Return the address of a store as it is.

    Raises
    ------
    Fault
        When it is none, or holds a secret; then the message does not repeat it.
    """
    protocol, separator, rest = address.partition("://")
    if not separator or not protocol.isalnum() or "::" in address:
        raise Fault(SUBJECT, "be an address with a protocol", _without_secrets(address), _FORM)
    if "@" in urlsplit(address).netloc or "?" in address or "#" in address:
        raise Fault(SUBJECT, "hold no credentials and no query", "an address with some", _ENVIRONMENT)
    if not rest.strip("/") or ".." in rest.split("/"):
        raise Fault(SUBJECT, "name a place in its store", address, _FORM)
    return address.rstrip("/")


def require_store(address: str) -> str:
    """Return what was found at an address: one small file is written, read and deleted.

    Raises
    ------
    Fault
        Within seconds, when the store is absent, or does not let us write.
    """
    store, name = SharedStore(check_address(address), patience_s=0.0), f"probe/{uuid4().hex}"
    store.write(name, name.encode())
    found = store.read(name)
    store.delete([name])
    if found != name.encode():
        raise Fault(
            SUBJECT, "give back what was written", f"{len(found)} other bytes", "see its server's log"
        )
    return f"{address} can be written and read"


@dataclass(frozen=True)
class SharedStore:
    """Files by name below an address. Where the store does not answer for a while, calls wait for it.

    Parameters
    ----------
    address : str
        From `check_address`.
    patience_s : float
        How long a call waits.
    """

    address: str
    patience_s: float = _PATIENCE_S

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        self._at_its_place(lambda files, root: files.pipe_file(f"{root}/{name}", content))

    def read(self, name: str) -> bytes:
        """Read a small file; FileNotFoundError where there is none."""
        content: bytes = self._patiently(lambda files, root: files.cat_file(f"{root}/{name}"))
        return content

    def put(self, local: Path, name: str) -> None:
        """Send a file of any size."""
        self._at_its_place(lambda files, root: files.put_file(str(local), f"{root}/{name}"))

    def get(self, name: str, local: Path) -> None:
        """Fetch a file of any size; FileNotFoundError where there is none."""
        self._patiently(lambda files, root: files.get_file(f"{root}/{name}", str(local)))

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size in bytes of every file below a folder, by name; nothing where it is not there."""

        def look(files: Any, root: str) -> dict[str, int]:
            found = files.find(f"{root}/{folder}", detail=True)
            return {name.removeprefix(f"{root}/"): int(info["size"]) for name, info in found.items()}

        return self._at_its_place(look)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; those that are gone already are no matter."""

        def remove(files: Any, root: str) -> None:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    files.rm_file(f"{root}/{name}")

        self._patiently(remove)

    def _at_its_place(self, call: Callable[[Any, str], T]) -> T:
        """Make a call that needs no file: what is not found is then the place itself."""
        try:
            return self._patiently(call)
        except FileNotFoundError as error:
            got = f"{self.address} ({_said(error)})"
            raise Fault(SUBJECT, "exist", got, "create it, or correct the address") from None

    def _patiently(self, call: Callable[[Any, str], T]) -> T:
        """Make a call, again and again while the store does not answer; it must do no harm twice."""
        began, wait_s, has_said = time.monotonic(), _FIRST_WAIT_S, False
        while True:
            try:
                found = call(*_open(self.address))
            except Exception as error:
                if isinstance(error, FileNotFoundError) or not _is_of_the_store(error):
                    raise
                self._give_up(error, time.monotonic() - began)
                if not has_said:
                    told = "%s does not answer (%s); work goes on, waiting up to %.0f minutes"
                    _logger.warning(told, self.address, _said(error), self.patience_s / 60)
                has_said = True
            else:
                if has_said:
                    _logger.warning("%s is back after %.0f s", self.address, time.monotonic() - began)
                return found
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _give_up(self, error: Exception, waited_s: float) -> None:
        """Raise what no waiting mends, and what was waited for long enough."""
        got = f"{self.address} ({_said(error)})"
        if type(error).__name__ in _CREDENTIALS:
            raise Fault(SUBJECT, "let us in", got, _ENVIRONMENT) from None
        if isinstance(error, PermissionError):
            remedy = "correct the credentials in the environment, or what they may do"
            raise Fault(SUBJECT, "let us read and write", got, remedy) from None
        if isinstance(error, OSError) and error.errno in _LASTING:
            raise Fault(SUBJECT, "have room, as must this machine", got, "make room and run again") from None
        if waited_s >= self.patience_s:
            remedy = "start it, or correct the address (for S3 also AWS_ENDPOINT_URL)"
            raise StoreGone(SUBJECT, "answer", got, remedy) from None


def _open(address: str) -> tuple[Any, str]:
    """Return the file system of an address and the path of its root there."""
    import fsspec

    protocol = address.partition("://")[0]
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        remedy = "install it with: pip install 'finscale[s3]'" if protocol in ("s3", "s3a") else str(error)
        raise Fault(SUBJECT, "have a protocol that is installed", address, remedy) from None
    except ValueError:
        raise Fault(SUBJECT, "have a known protocol", address, _FORM) from None
    files = kind(use_listings_cache=False, **_OPTIONS.get(protocol, {}))
    root = str(kind._strip_protocol(address))
    if protocol == "file" and not Path(root).is_dir():
        # as a server that does not answer: it may be mounted in a moment
        raise OSError(errno.ENODEV, "no such folder: mount or create it on every node")
    return files, root


def _is_of_the_store(error: Exception) -> bool:
    return isinstance(error, OSError) or f"{type(error).__module__}.".startswith(_NETWORK)


def _said(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return _without_secrets(text)[:300]


def _without_secrets(text: str) -> str:
    return _SECRETS.sub("", text)
