"""Where a search runs: in processes of this machine, or on a Ray cluster, which alone makes us import ray.

The cluster is the one at ``RAY_ADDRESS``; without that a local one is started. Usage statistics are off, and
a cluster that we start has no dashboard and listens on loopback alone.
"""

import contextlib
import importlib.util
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Final

from finscale.core.errors import Fault
from finscale.runtime.shared_store import SharedStore
from finscale.runtime.staging import StagedExecutor
from finscale.search.config import SearchConfig
from finscale.search.executors import Executor, OnReport
from finscale.search.run import local_executor

__all__ = ["connect", "make_executor", "require_cluster"]

_VARIABLE: Final = "RAY_ADDRESS"
_REMEDY: Final = f"start one with: ray start --head; or unset {_VARIABLE}, and a local one is started"
_ANSWER_S: Final = 5.0
_OBJECTS_BYTES: Final = 128 * 2**20
"""For what passes between processes, which is little: windows and checkpoints are read from files."""

_logger = logging.getLogger(__name__)


def make_executor(
    config: SearchConfig,
    *,
    on_report: OnReport,
    should_stop: Callable[[], bool],
    should_pause: Callable[[], bool],
    shared: str | None = None,
) -> Executor:
    """Return what runs the attempts of a search (a `finscale.search.run.MakeExecutor`).

    Parameters
    ----------
    shared : str or None
        Address of the store through which nodes read and write (``paths.shared``).

    Raises
    ------
    Fault
        When there is no cluster, or no room for a single attempt on it.
    """
    if config.executor != "ray":
        return local_executor(config, on_report=on_report, should_stop=should_stop, should_pause=should_pause)
    require_cluster(config)
    from finscale.runtime.ray_executor import RayExecutor

    n_places, store = connect(config), None if shared is None else SharedStore(shared)
    hands = RayExecutor(
        n_slots=config.n_workers or n_places,
        n_processes=config.n_processes,
        n_gpus=config.n_gpus,
        on_report=on_report,
        should_pause=should_pause,
        store=store,
    )
    return hands if store is None else StagedExecutor(hands, store)


def require_cluster(config: SearchConfig) -> str:
    """Return where a search will run; of a cluster, whether it answers, and nothing is started.

    Raises
    ------
    Fault
        When ray is not installed, or nothing answers at ``RAY_ADDRESS``.
    """
    if config.executor != "ray":
        return "trials on this machine"
    if importlib.util.find_spec("ray") is None:
        rule = "be process or inline where ray is not installed"
        raise Fault("hpo.executor", rule, "ray", "install it with: pip install 'finscale[cluster]'")
    address = os.environ.get(_VARIABLE)
    if not address:
        return f"trials on a local Ray cluster, which will be started: {_VARIABLE} is not set"
    _require_answer(address)
    return f"trials on the Ray cluster at {address}"


def _require_answer(address: str) -> None:
    host, _, port = address.rpartition(":")
    rule = "be host:port of a running Ray cluster, on one of whose nodes this is"
    if not host or not port.isdigit() or "/" in host:
        raise Fault(_VARIABLE, rule, address, _REMEDY)
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise Fault(_VARIABLE, rule, f"{address} ({error})", _REMEDY) from None


def connect(config: SearchConfig) -> int:
    """Connect this process once; return how many attempts the cluster has room for."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # we read the end of every task, but for those that we end
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"
    import ray

    from finscale.runtime.ray_executor import n_places

    if not ray.is_initialized():
        with _sigterm_kept():
            _join(config)
    found = n_places(n_gpus=config.n_gpus, n_processes=config.n_processes)
    if found == 0:
        room = f"a node with a CPU and {config.n_gpus:g} GPUs"
        rule = f"have {room}" if config.n_processes == 1 else f"have {config.n_processes} times {room}"
        got = {name: count for name, count in ray.cluster_resources().items() if name in ("CPU", "GPU")}
        remedy = "set hpo.n_gpus=0" if config.n_processes == 1 else "set a smaller hpo.n_processes"
        raise Fault("the Ray cluster", rule, got, f"add such a node, or {remedy}")
    return found


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Put back what answers SIGTERM, which ray.init replaces: with us the first one saves."""
    ours = signal.getsignal(signal.SIGTERM)
    yield
    if callable(ours) and signal.getsignal(signal.SIGTERM) is not ours:
        signal.signal(signal.SIGTERM, ours)


def _join(config: SearchConfig) -> None:
    import ray

    if os.environ.get(_VARIABLE):
        try:
            ray.init(address=os.environ[_VARIABLE], log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())[:300]
            raise Fault(_VARIABLE, "be the address of a Ray cluster", text, _REMEDY) from None
        return
    _logger.warning("%s is not set: starting a local Ray cluster on this machine", _VARIABLE)
    ray.init(
        address="local",
        num_cpus=config.n_workers and config.n_workers * config.n_processes,
        object_store_memory=_OBJECTS_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
        _node_ip_address="127.0.0.1",
    )
