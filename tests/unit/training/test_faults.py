"""Harm is done, and the run is gone on with: kills at chosen and random moments, a full disk, a signal."""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finscale.core.errors import Fault
from finscale.runtime.stopping import Stopper
from finscale.training.checkpoint import Checkpoints
from finscale.training.events import CheckpointRejected, CheckpointSaved, Event, Resumed
from finscale.training.result import TrainingResult
from finscale.training.run_spec import RunSpec, fingerprint, write_run_spec
from finscale.windows.data import WindowData, save_windows

Specs = Callable[..., RunSpec]
Windows = Callable[..., WindowData]
Trains = Callable[..., TrainingResult]

SCRIPT = '''
import os, signal, sys
from pathlib import Path
from finscale.training import checkpoint, evaluate, loop
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import read_run_spec
from finscale.windows.data import load_windows

folder, moments = Path(sys.argv[1]), sys.argv[2:]
PLACES = {
    "step": (loop.Stepper, "update"), "validation": (loop, "observe"), "commit": (checkpoint, "write_json"),
    "tensors": (checkpoint, "save_file"), "best": (evaluate, "save_file"),
}

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def die_half_way(tensors, path, **kwargs):
    Path(path).write_bytes(b"half of it")
    die()

def plant(place, number):
    """Die in the call after ``number`` calls."""
    owner, name = PLACES[place]
    real, calls = getattr(owner, name), iter(range(10**9))
    kill = die_half_way if name == "save_file" else die
    setattr(owner, name, lambda *a, **k: (kill if next(calls) == number else real)(*a, **k))

def run(name):
    loop.train(
        read_run_spec(folder / "wanted.json"), load_windows(folder / "windows"), directory=folder / name,
        execution=ExecutionConfig(device="cpu", checkpoint_every_s=0.0),
    )

for moment in moments:
    child = os.fork()
    if child == 0:
        place, number = moment.split(":")
        plant(place, int(number))
        run("killed")
        os._exit(0)
    print(moment, os.waitpid(child, 0)[1], flush=True)
run("elsewhere")
'''


def _moments(seed: int) -> list[str]:
    """Five moments in the sequence of one run: at a step, in a validation, three times while it writes."""
    draw = random.Random(seed)
    places = ["step", "validation", "tensors", "commit"]
    draw.shuffle(places)
    counts = {"step": draw.randrange(3, 12), "best": 0}
    return [f"{place}:{counts.get(place, draw.randrange(1, 3))}" for place in [*places, "best"]]


def _ends(folder: Path) -> dict[str, torch.Tensor]:
    """Weights, optimizer state and best weights of a finished run."""
    last = max((folder / "checkpoints").glob("*.safetensors"))
    kept = load_file(folder / "best.safetensors")
    return {**load_file(last), **{f"kept/{name}": tensor for name, tensor in kept.items()}}


def _assert_same(first: Path, second: Path) -> None:
    a, b = _ends(first), _ends(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_killed_five_times_and_a_run_of_another_process_end_with_the_same_bits(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    spec = make_spec(data, dropout=0.3, epochs=12, patience=99)
    save_windows(tmp_path / "windows", data)
    write_run_spec(tmp_path / "wanted.json", spec)
    moments = _moments(seed=20)
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path, *moments], capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.split() == [word for moment in moments for word in (moment, str(int(signal.SIGKILL)))]
    assert not (tmp_path / "killed" / "result.json").exists()
    events: list[Event] = []
    assert train_tiny(spec, data, name="killed", on_event=events.append).outcome == "complete"
    assert any(isinstance(event, Resumed) for event in events)
    train_tiny(spec, data, name="whole")
    _assert_same(tmp_path / "killed", tmp_path / "whole")
    _assert_same(tmp_path / "elsewhere", tmp_path / "whole")


def _refused_while(
    full: contextlib.AbstractContextManager[object],
    spec: RunSpec,
    data: WindowData,
    train_tiny: Trains,
    folder: Path,
) -> None:
    """Fill the disk after some steps: the run says so, the last checkpoint is whole, and it goes on later."""
    stack, steps = contextlib.ExitStack(), iter(range(10**9))

    def fill_at_step_nine() -> bool:
        if next(steps) == 9:
            stack.enter_context(full)
        return False

    saved: list[Event] = []
    with stack, pytest.raises(Fault, match=r"must fit on its disk.*make room and run again"):
        train_tiny(spec, data, name=str(folder), on_event=saved.append, should_stop=fill_at_step_nine)
    (checkpoint,) = [event for event in saved if isinstance(event, CheckpointSaved)]
    assert not list(folder.rglob("*.tmp"))
    found = Checkpoints(folder, fingerprint(spec)).load(lambda event: pytest.fail(str(event)))
    assert found is not None
    assert found[1].step == checkpoint.step == 6
    assert train_tiny(spec, data, name=str(folder)).outcome == "complete"


@contextlib.contextmanager
def _no_file_above(n_bytes: int) -> Iterator[None]:
    """Have every write past ``n_bytes`` of a file fail half way, as one does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_does_not_fit_is_a_fault_and_the_one_before_stays(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    spec = make_spec(data, dropout=0.3)
    train_tiny(spec, data, name="whole")
    _refused_while(_no_file_above(4096), spec, data, train_tiny, tmp_path / "run")
    _assert_same(tmp_path / "whole", tmp_path / "run")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs the right to")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def _filled(folder: Path) -> Iterator[None]:
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 1024)
    yield
    ballast.unlink()


def test_a_full_disk_is_a_fault_and_with_room_again_the_run_ends_as_if_nothing_had_been(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path, small_disk: Path
) -> None:
    data = make_data()
    spec = make_spec(data, dropout=0.3)
    train_tiny(spec, data, name="whole")
    _refused_while(_filled(small_disk), spec, data, train_tiny, small_disk / "run")
    _assert_same(tmp_path / "whole", small_disk / "run")


def test_when_both_checkpoints_are_damaged_the_run_begins_again_and_ends_the_same(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    spec = make_spec(data, dropout=0.3)
    train_tiny(spec, data, name="whole")
    polls = iter(range(10**9))
    train_tiny(spec, data, name="parts", should_stop=lambda: next(polls) >= 15)
    for path in (tmp_path / "parts" / "checkpoints").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    events: list[Event] = []
    train_tiny(spec, data, name="parts", on_event=events.append)
    assert [type(event) for event in events].count(CheckpointRejected) == 2
    assert not any(isinstance(event, Resumed) for event in events)
    _assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_sigterm_saves_at_the_next_step_and_the_run_goes_on_from_there(
    make_data: Windows, make_spec: Specs, train_tiny: Trains, tmp_path: Path
) -> None:
    data = make_data()
    spec = make_spec(data, dropout=0.3)
    train_tiny(spec, data, name="whole")
    stopper, steps = Stopper(), iter(range(10**9))

    def asked() -> bool:
        if next(steps) == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return stopper.requested()

    with stopper.listening():
        stopped = train_tiny(spec, data, name="parts", should_stop=asked)
    assert stopper.exit_code == 143
    assert (stopped.outcome, stopped.n_steps) == ("stopped", 8)
    assert train_tiny(spec, data, name="parts").n_steps == 18
    _assert_same(tmp_path / "whole", tmp_path / "parts")
