"""Whether every node of a cluster can run the attempts of a search: asked of each before the first one.

A node is asked by a small task that is bound to it. What it sees is compared with what this machine sees,
and every node that differs is named, all of them at once. ray is imported where a cluster is asked.
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psutil

from finscale.core.errors import Fault, FinscaleError, raise_faults
from finscale.core.files import write_text
from finscale.runtime.shared_store import SharedStore
from finscale.search.config import SearchConfig

__all__ = ["Token", "faults_of_node", "look_around", "require_nodes"]

_ANSWER_S: Final = 30.0
_MIN_GIB: Final = 1.0
_SAME: Final = "install the same on every node, and start the node again"
_SHARE: Final = "mount one folder for all nodes there, or set paths.shared (docs/how-to/cluster.md)"


@dataclass(frozen=True)
class Token:
    """A file that the driver wrote, and that a node is to find where trials will read and write.

    Parameters
    ----------
    name : str
        Of the file, which holds its own name.
    data : str
        The folder of the run.
    shared : str or None
        The address through which it is reached; None where nodes see the folder itself.
    """

    name: str
    data: str
    shared: str | None

    def write(self) -> None:
        """Write it, on the driver's machine."""
        if self.shared is None:
            write_text(Path(self.data) / self.name, self.name)
        else:
            self._store.write(self.name, self.name.encode())

    def delete(self) -> None:
        """Delete it."""
        if self.shared is None:
            (Path(self.data) / self.name).unlink(missing_ok=True)
        else:
            self._store.delete([self.name])

    def read(self) -> str:
        """Return ``""`` where it is found, and what stands in the way elsewhere."""
        try:
            if self.shared is not None:
                return "" if self._store.read(self.name) == self.name.encode() else "another file"
            folder = Path(self.data)
            if (folder / self.name).read_text("utf-8") != self.name:
                return "another file"
            return "" if os.access(folder, os.W_OK) else "a folder that may not be written"
        except FileNotFoundError:
            return "another folder, or none" if self.shared is None else "another store"
        except (OSError, FinscaleError) as error:
            return str(error)

    @property
    def place(self) -> Path:
        """Folder of a node to which attempts write."""
        return Path(tempfile.gettempdir() if self.shared is not None else self.data)

    @property
    def _store(self) -> SharedStore:
        assert self.shared is not None
        return SharedStore(self.shared, patience_s=0.0)


def look_around(token: Token) -> dict[str, Any]:
    """Return what this process sees of its machine: plain values, which any version of us can read."""
    from finscale.runtime.runner import code_hash

    there = token.read()
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "torch": version("torch"),
        "finscale": code_hash(),
        "data": there,
        "free_disk_gib": shutil.disk_usage(token.place).free / 2**30 if token.place.is_dir() else None,
        "free_memory_gib": psutil.virtual_memory().available / 2**30,
    }


def faults_of_node(
    name: str, found: Mapping[str, Any], ours: Mapping[str, Any], token: Token
) -> list[Exception]:
    """Return what keeps a node from running our attempts.

    Parameters
    ----------
    found, ours : mapping
        What `look_around` returned there and here.
    """
    faults: list[Exception] = []
    for key, what in {"python": "Python", "torch": "PyTorch", "finscale": "the code of finscale"}.items():
        if found[key] != ours[key]:
            shown = f"{what} {found[key]}"
            faults.append(Fault(name, f"run {what} {ours[key]} as this machine does", shown, _SAME))
    if found["data"]:
        where = f"paths.data={token.data}" if token.shared is None else f"paths.shared={token.shared}"
        remedy = _SHARE if token.shared is None else "see its network, and the credentials in its environment"
        faults.append(Fault(name, f"find what this machine wrote to {where}", found["data"], remedy))
    faults += _too_little(name, "disk", found["free_disk_gib"], f"make room in {token.place}")
    faults += _too_little(name, "memory", found["free_memory_gib"], "end other programs there")
    return faults


def _too_little(name: str, what: str, gib: float | None, remedy: str) -> list[Exception]:
    if gib is None or gib >= _MIN_GIB:
        return []
    return [Fault(name, f"have {_MIN_GIB:g} GiB of free {what}", f"{gib:.2f} GiB", remedy)]


def require_nodes(config: SearchConfig, *, data: Path, shared: str | None) -> str:
    """Return how many nodes will run attempts, once each of them was asked; connects to the cluster.

    Raises
    ------
    FinscaleError
        Within half a minute, with every node that does not answer or that differs from this machine.
    """
    from finscale.runtime.cluster import connect

    connect(config)
    with _written(Token(f".cluster-{uuid4().hex}", str(data.resolve()), shared)) as token:
        ours, answers = look_around(token), _ask(token, _nodes(config))
    names = [name for name, _ in answers]
    raise_faults(
        fault
        for name, answer in answers
        for fault in (
            [answer] if isinstance(answer, Exception) else faults_of_node(name, answer, ours, token)
        )
    )
    return f"{len(names)} nodes that answer and agree"


@contextmanager
def _written(token: Token) -> Iterator[Token]:
    token.write()
    try:
        yield token
    finally:
        token.delete()


def _nodes(config: SearchConfig) -> dict[str, str]:
    """Ids of the nodes that have room for a process of an attempt, with what people call them."""
    import ray

    return {
        node["NodeID"]: f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        for node in ray.nodes()
        if node["Alive"]
        and node["Resources"].get("CPU", 0) >= 1
        and node["Resources"].get("GPU", 0) >= config.n_gpus
    }


def _ask(token: Token, nodes: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Ask all nodes at once; an exception stands for an answer that did not come."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as Bound

    task = ray.remote(num_cpus=0, max_retries=0)(look_around)
    asked = [
        (name, task.options(scheduling_strategy=Bound(node, soft=False)).remote(token))
        for node, name in nodes.items()
    ]
    answered, late = ray.wait([answer for _, answer in asked], num_returns=len(asked), timeout=_ANSWER_S)
    for answer in late:
        ray.cancel(answer, force=True)
    return [(name, _fetch(name, answer, is_there=answer in answered)) for name, answer in asked]


def _fetch(name: str, answer: Any, *, is_there: bool) -> Any:
    import ray
    from ray.exceptions import NodeDiedError, RayError, WorkerCrashedError

    if not is_there:
        rule = f"answer within {_ANSWER_S:g} s"
        return Fault(name, rule, "nothing", "start it again: ray stop; ray start --address=<the head's>")
    try:
        return ray.get(answer)
    except (NodeDiedError, WorkerCrashedError) as error:
        return Fault(name, "answer", type(error).__name__, "see the logs of Ray on that node")
    except RayError as error:
        cause = getattr(error, "cause", None) or error
        said = f"{type(cause).__name__}: {' '.join(str(cause).split())}"[:200]
        return Fault(name, "run this machine's finscale", said, _SAME)
