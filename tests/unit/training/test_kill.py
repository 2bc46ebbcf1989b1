"""Kill -9 at a random moment, run again: the same weights as if nothing had happened."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from finscale.training.result import TrainingResult
from finscale.training.run_spec import RunSpec, write_run_spec
from finscale.windows.data import WindowData, save_windows

SCRIPT = """
import sys
from pathlib import Path
from finscale.training.config import ExecutionConfig
from finscale.training.events import EpochEnd
from finscale.training.loop import train
from finscale.training.run_spec import read_run_spec
from finscale.windows.data import load_windows

folder = Path(sys.argv[1])
train(
    read_run_spec(folder / "wanted.json"), load_windows(folder / "windows"), directory=folder / "run",
    execution=ExecutionConfig(device="cpu", checkpoint_every_s=0.0),
    on_event=lambda event: print(event.epoch, flush=True) if isinstance(event, EpochEnd) else None,
)
"""


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    make_data: Callable[..., WindowData],
    make_spec: Callable[..., RunSpec],
    train_tiny: Callable[..., TrainingResult],
    tmp_path: Path,
) -> None:
    data = make_data()
    spec = make_spec(data, dropout=0.3, epochs=60, patience=99)
    save_windows(tmp_path / "windows", data)
    write_run_spec(tmp_path / "wanted.json", spec)
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(random.random() * 0.5)
        child.kill()
    assert not (tmp_path / "run" / "result.json").exists()
    train_tiny(spec, data, name="run")
    train_tiny(spec, data, name="whole")
    ends = [tmp_path / name / "checkpoints" / "step_000000360.safetensors" for name in ("run", "whole")]
    a, b = load_file(ends[0]), load_file(ends[1])
    assert all(torch.equal(a[name], b[name]) for name in a | b)
