"""Toy trials that children import: nothing here that takes time to import."""

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from finscale.core.files import write_text


def toy_trial(
    payload: Mapping[str, Any],
    directory: Path,
    *,
    should_stop: Callable[[], bool],
    report: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Count epochs in a file, going on where an earlier attempt stopped; misbehave when told to.

    Of several processes the leader counts, and the others look on.
    """
    rank = int(os.environ.get("RANK", "0"))
    if rank == payload.get("culprit", 0) > 0:
        misbehave(payload)
    if rank > 0:
        return look_on(payload, directory, should_stop)
    with (directory / "attempts").open("a") as file:
        file.write(f"{os.getpid()} {payload['batch']['micro_batch_size']}\n")
    if not payload.get("culprit", 0):
        misbehave(payload)
    path = directory / "epoch"
    for epoch in range(int(path.read_text()) if path.exists() else 0, payload["epochs"]):
        if should_stop():
            return {"outcome": "stopped"}
        time.sleep(payload["seconds_per_epoch"] + random.random() * payload.get("jitter_s", 0.0))
        write_text(path, str(epoch + 1))
        report({"epoch": epoch + 1, "val_loss": payload["value"] + 1 / (epoch + 1)})
    return {"outcome": "complete", "value": payload["value"], "metrics": {"stopped_epoch": payload["epochs"]}}


def look_on(payload: Mapping[str, Any], directory: Path, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Wait until the leader is done, or until told to stop; the leader's death shows in nothing."""
    write_text(directory / "onlooker", str(os.getpid()))
    path = directory / "epoch"
    while not (path.exists() and path.read_text() == str(payload["epochs"])):
        if should_stop():
            return {"outcome": "stopped"}
        time.sleep(0.01)
    return {"outcome": "complete", "value": 0.0}


def misbehave(payload: Mapping[str, Any]) -> None:
    behaviour = payload.get("behaviour", "")
    if behaviour == "raise":
        raise RuntimeError("the toy broke")
    if behaviour == "leave":
        sys.exit(3)
    if behaviour.startswith("kill"):
        os.kill(os.getpid(), signal.Signals[behaviour.removeprefix("kill ")])
        time.sleep(0.2)
    if behaviour == "end its worker":
        worker_of(os.getpid()).kill()
        time.sleep(60)
    if behaviour == "need more memory than there is":
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (psutil.Process().memory_info().data + 2**25, most))
        bytearray(2**30)
    if behaviour.startswith("oom above") and payload["batch"]["micro_batch_size"] > int(
        behaviour.split()[-1]
    ):
        raise MemoryError("toy memory")


def worker_of(pid: int) -> psutil.Process:
    """On a cluster, the worker that watches over an attempt: its fork server's parent."""
    server = psutil.Process(pid).parent()
    assert server is not None
    worker = server.parent()
    assert worker is not None
    return worker


def environment_trial(payload: Mapping[str, Any], directory: Path, **_channel: Any) -> dict[str, Any]:
    """Report what a child finds around itself."""
    import torch

    found = {"threads": torch.get_num_threads(), "wait_policy": os.environ["OMP_WAIT_POLICY"]}
    return {"outcome": "complete", "value": 0.0, "metrics": found}


def ranked_trial(
    payload: Mapping[str, Any],
    directory: Path,
    *,
    should_stop: Callable[[], bool],
    report: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Write down this process's place and when it ran, and report once; the leader ends last."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES")
    place: dict[str, Any] = {name: os.environ[name] for name in names if name in os.environ}
    began_at = time.time()
    time.sleep(payload["seconds_per_epoch"])
    report({"epoch": 1, "val_loss": 0.0})
    rank = os.environ.get("RANK", "0")
    if rank == "0":
        n_others = int(os.environ.get("WORLD_SIZE", "1")) - 1
        wait_until(lambda: len(list(directory.glob("rank_*"))) == n_others, seconds=60)
    path = directory / f"rank_{rank}"
    write_text(path, json.dumps({**place, "began_at": began_at, "ended_at": time.time()}))
    return {"outcome": "complete", "value": 0.0}


def hold(tie: str, path: Path) -> None:
    """Tie this process to its driver, say where it is, and wait."""
    from finscale.search import lifeline

    getattr(lifeline, tie)()
    write_text(path, str(os.getpid()))
    time.sleep(60)


def wait_until(happened: Callable[[], bool], seconds: float = 180.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
