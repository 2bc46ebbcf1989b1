"""Attempts of several processes that train together: who they are, where they meet, how they ended.

W processes, told apart by their rank from 0, which leads: it alone holds the trial's directory, reports and
saves an outcome. They meet as processes do that torchrun started (`finscale.training.distributed`).
"""

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psutil

from finscale.search.outcomes import TrialOutcome

__all__ = ["Ends", "Member", "free_port", "join", "leads", "on_nodes", "on_this_machine"]

_GRACE_S = 5.0
_LOOPBACK: Final = "127.0.0.1"
_INTERFACE: Final = "GLOO_SOCKET_IFNAME"

_ECHOES: Final = ("DistBackendError", "DistNetworkError", "DistStoreError", "gloo/", "Gloo ")
"""In what PyTorch raises where a process does not find its peers, or no longer."""


@dataclass(frozen=True)
class Member:
    """One of the processes of an attempt.

    Parameters
    ----------
    rank, n_processes : int
        Its number, from 0, and how many there are.
    local_rank : int
        Index of its device among those that it sees.
    address, port : str, int
        Where rank 0 awaits the others.
    """

    rank: int
    n_processes: int
    local_rank: int
    address: str
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """Return what PyTorch reads in this process, which is to be on its own node by now."""
        found = {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.n_processes),
            "LOCAL_RANK": str(self.local_rank),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }
        interface = os.environ.get(_INTERFACE) or _interface_towards(self.address)
        return {**found, _INTERFACE: interface} if interface else found


def leads() -> bool:
    """Whether this process writes the files of its attempt; where it is alone it does."""
    return os.environ.get("RANK", "0") == "0"


def on_this_machine(n_processes: int, *, slot: int) -> tuple[Member, ...]:
    """Return the members of an attempt that has a slot, and its devices, to itself.

    Examples
    --------
    >>> [member.local_rank for member in on_this_machine(2, slot=1)]
    [2, 3]
    """
    port, first = free_port(_LOOPBACK), slot * n_processes
    return tuple(Member(rank, n_processes, first + rank, _LOOPBACK, port) for rank in range(n_processes))


def on_nodes(
    nodes: Sequence[str], *, sees_own_device_only: bool, address: str, port: int
) -> tuple[Member, ...]:
    """Return the members of an attempt whose ranks run on these nodes.

    Parameters
    ----------
    nodes : sequence of str
        Node of every rank.
    sees_own_device_only : bool
        Whether each process is shown its own device alone, which is then number 0; else those of one node
        count through.

    Examples
    --------
    >>> place = {"address": "10.0.0.1", "port": 29500}
    >>> [m.local_rank for m in on_nodes(["a", "b", "a"], sees_own_device_only=False, **place)]
    [0, 0, 1]
    """
    local = [0 if sees_own_device_only else list(nodes[:rank]).count(node) for rank, node in enumerate(nodes)]
    return tuple(Member(rank, len(nodes), index, address, port) for rank, index in enumerate(local))


def free_port(address: str) -> int:
    """Return a port that nobody listens on now; should it be taken before it is used, the attempt is lost."""
    with socket.socket() as found:
        found.bind((address, 0))
        port: int = found.getsockname()[1]
        return port


def _interface_towards(address: str) -> str | None:
    """Name the network interface from which ``address`` is reached: a host's name may stand for another."""
    with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as route:
        route.connect((address, 1))
        ours = route.getsockname()[0]
        for name, addresses in psutil.net_if_addrs().items():
            if ours in (found.address for found in addresses):
                return name
    return None


class Ends:
    """How the processes of one attempt have ended so far."""

    def __init__(self, n_processes: int) -> None:
        self._ends: list[TrialOutcome | None] = [None] * n_processes
        self._last_call_at = float("inf")

    def note(self, rank: int, outcome: TrialOutcome) -> None:
        """Take down an end; once the leader has ended, or anyone badly, the others are to end soon."""
        self._ends[rank] = outcome
        if rank == 0 or outcome.outcome not in ("complete", "diverged", "stopped"):
            self._last_call_at = min(self._last_call_at, time.monotonic() + _GRACE_S)

    @property
    def missing(self) -> tuple[int, ...]:
        """Ranks that have not ended."""
        return tuple(rank for rank, end in enumerate(self._ends) if end is None)

    @property
    def are_in(self) -> bool:
        """Whether nobody is waited for any more; who is missing now hangs, and is to be killed."""
        return not self.missing or time.monotonic() >= self._last_call_at

    def joined(self) -> TrialOutcome:
        """Return the end of the attempt."""
        return join(self._ends)


def join(ends: Sequence[TrialOutcome | None]) -> TrialOutcome:
    """Make one end of those of all ranks.

    A leader that completed did so after all others had done their part, and has saved it. Else the worst end
    counts, of the lowest rank that met it; the echo of another's end, in a process that lost its peer, does
    not. Where nothing but echoes is left the attempt was lost to the network between them.

    Parameters
    ----------
    ends : sequence of TrialOutcome or None
        By rank; None of one that had to be killed because another had ended.
    """
    leader = ends[0]
    if leader is not None and (len(ends) == 1 or leader.outcome == "complete"):
        return leader
    own = [end for end in ends if end is not None and not _is_echo(end)]
    for kind in ("oom", "lost", "failed", "stopped", "diverged"):
        for end in own:
            if end.outcome == kind:
                return end
    echo = next((end.reason for end in ends if end is not None and _is_echo(end)), "rank 0 hung")
    return TrialOutcome(outcome="lost", reason=f"its processes lost each other: {echo}")


def _is_echo(end: TrialOutcome) -> bool:
    return end.outcome == "failed" and any(text in end.reason for text in _ECHOES)
