"""Run only what changed: a node tagged ``cached`` is skipped while the content of its inputs is the same.

The key of a node is the hash of its name, the source code, its parameters, and the keys of the nodes
before it, down to the fingerprint of the bars; nothing has to be loaded to know that nothing changed. Of
several processes one at a time runs such a node; the others then find that nothing changed.
"""

import contextlib
import fcntl
import functools
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner
from pluggy import PluginManager

import finscale
from finscale.core.errors import Answered, FinscaleError
from finscale.core.files import read_json, write_json
from finscale.core.hashing import content_hash
from finscale.runtime.stopping import STOP

__all__ = ["CACHED", "ContentRunner", "code_hash"]

CACHED = "cached"
_POLL_S = 0.1
logger = logging.getLogger(__name__)


class ContentRunner(SequentialRunner):
    """Kedro's sequential runner, less the nodes whose inputs have not changed."""

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol,
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
    ) -> None:
        keys = _keys(pipeline, catalog)
        for position, node in enumerate(pipeline.nodes, start=1):
            STOP.raise_if_requested(_stopped_before(node))
            with _alone(node, catalog) if node in keys else contextlib.nullcontext():
                if node in keys and _is_fresh(node, keys[node], catalog):
                    logger.info("%2d/%d %s: unchanged, skipped", position, len(pipeline.nodes), node.name)
                    continue
                logger.info("%2d/%d %s", position, len(pipeline.nodes), node.name)
                super()._run(Pipeline([node]), catalog, hook_manager, run_id)
                if node in keys:
                    write_json(_manifest(node, catalog), {"node": node.name, "key": keys[node]})

    @property
    def _logger(self) -> logging.Logger:
        """Kedro's own lines go to Kedro's logger, which conf/logging.yml keeps quiet."""
        return logging.getLogger("kedro.runner")

    def _suggest_resume_scenario(self, *args: Any, **kwargs: Any) -> None:
        """Say nothing: the same command continues where it stopped."""


def _keys(pipeline: Pipeline, catalog: CatalogProtocol) -> dict[Node, str]:
    """Key of every cached node whose inputs can all be known without running anything else."""
    known: dict[str, str] = {}
    keys: dict[Node, str] = {}
    produced = pipeline.all_outputs()
    for node in pipeline.nodes:
        if CACHED not in node.tags:
            continue
        prints = {name: known.get(name) or _fingerprint(name, catalog, produced) for name in node.inputs}
        if all(prints.values()):
            keys[node] = content_hash(node.name, code_hash(), prints)
            known.update({output: f"{keys[node]}:{output}" for output in node.outputs})
    return keys


def _fingerprint(name: str, catalog: CatalogProtocol, produced: set[str]) -> str | None:
    if name in produced:
        return None
    if name.startswith("params:") or name == "parameters":
        return content_hash(catalog.load(name))
    fingerprint = getattr(catalog[name], "fingerprint", None)
    return fingerprint() if fingerprint is not None else None


def _is_fresh(node: Node, key: str, catalog: CatalogProtocol) -> bool:
    manifest = _manifest(node, catalog)
    if not manifest.exists() or not all(catalog.exists(output) for output in node.outputs):
        return False
    try:
        found = read_json(manifest)
    except FinscaleError:
        return False
    return isinstance(found, Mapping) and found.get("key") == key


@contextlib.contextmanager
def _alone(node: Node, catalog: CatalogProtocol) -> Iterator[None]:
    """Wait until no other process runs the same node: cells share features, windows and grids."""
    path = Path(catalog.load("params:paths.data")) / ".cache" / f"{node.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a", encoding="utf-8") as lock:
            while not _taken(lock):
                STOP.raise_if_requested(_stopped_before(node))
                time.sleep(_POLL_S)
            if not _is_at(path, lock):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(path: Path, lock: TextIO) -> bool:
    """Whether the lock still lies there: who had it before us took it away, and the next one is another."""
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False


def _taken(lock: TextIO) -> bool:
    """Whether the lock is ours now; it ends with the file, or with us."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stopped_before(node: Node) -> str:
    return f"Stopped before {node.name}; everything before it is saved."


def _manifest(node: Node, catalog: CatalogProtocol) -> Path:
    place = content_hash(node.name, [str(catalog[output]) for output in node.outputs])
    return Path(catalog.load("params:paths.data")) / ".cache" / f"{node.name}-{place}.json"


def _is_a_failure(record: logging.LogRecord) -> bool:
    """Whether what Kedro reports of a node is one: a node that gave an answer has not failed."""
    return not isinstance(sys.exc_info()[1], Answered)


logging.getLogger("kedro.pipeline.node").addFilter(_is_a_failure)


@functools.cache
def code_hash() -> str:
    """Return the hash of the package's source: after a change of code nothing old counts as fresh."""
    folder = Path(finscale.__file__).parent
    sources = sorted(folder.rglob("*.py"))
    return content_hash({str(path.relative_to(folder)): path.read_text("utf-8") for path in sources})
