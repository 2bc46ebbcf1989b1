"""Train one run on several devices: ``torchrun --nproc-per-node 2 -m finscale.training SPEC WINDOWS FOLDER``.

Further words are fields of `finscale.training.config.ExecutionConfig`, as ``strategy=fsdp precision=bf16``;
the strategy is ddp unless given. The run goes on from a checkpoint in FOLDER, whoever wrote it.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from finscale.core.errors import Fault, FinscaleError
from finscale.training.config import ExecutionConfig
from finscale.training.event_log import logged
from finscale.training.loop import train
from finscale.training.result import TrainingResult
from finscale.training.run_spec import read_run_spec
from finscale.windows.data import load_windows

__all__ = ["main"]

_CODES = {"complete": 0, "diverged": 1}


def main(arguments: Sequence[str]) -> int:
    """Train one run and return the exit code: 0 complete, 1 diverged or a fault, 130 or 143 stopped.

    Parameters
    ----------
    arguments : sequence of str
        A run's specification, the folder of its windows, the directory of the run, then ``name=value``.
    """
    signals: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        result = _train(arguments, signals)
    except FinscaleError as fault:
        print(f"Error: {fault}", file=sys.stderr, flush=True)
        return 1
    return _CODES.get(result.outcome, 128 + max(signals, default=signal.SIGTERM))


def _train(arguments: Sequence[str], signals: Sequence[int]) -> TrainingResult:
    paths, settings = arguments[:3], [word.partition("=") for word in arguments[3:]]
    if len(paths) < 3 or not all(equals for _, equals, _ in settings):
        rule = "be SPEC WINDOWS FOLDER [name=value ...]"
        raise Fault(
            "arguments", rule, " ".join(arguments) or "none at all", "see docs/how-to/several_devices.md"
        )
    spec, windows, directory = map(Path, paths)
    values = {"strategy": "ddp", **{name: value for name, _, value in settings}}
    return train(
        read_run_spec(spec),
        load_windows(windows),
        directory=directory,
        execution=ExecutionConfig.read(values, subject="execution"),
        on_event=logged(directory, lambda event: print(event, flush=True)),
        should_stop=lambda: bool(signals),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
