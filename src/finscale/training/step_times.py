"""Time a few real optimizer steps of a run on this machine; nothing is kept or written."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from finscale.training.config import ExecutionConfig, resolve_device
from finscale.training.evaluate import observe
from finscale.training.execution import executing
from finscale.training.run_spec import RunSpec
from finscale.training.scoring import scoring_of
from finscale.training.stepper import Stepper
from finscale.windows.data import WindowData
from finscale.windows.view import view_windows

__all__ = ["StepTimes", "time_steps"]

_N_WARM_UP, _N_TIMED, _ENOUGH_S = 5, 20, 2.0
_N_SCORED = 512


class StepTimes(NamedTuple):
    """Seconds per window of a step, per window that is validated, and before the first step."""

    window_s: float
    scored_s: float
    start_s: float


def time_steps(spec: RunSpec, data: WindowData, execution: ExecutionConfig) -> StepTimes:
    """Make steps as the training loop makes them, and validate as it does.

    The first ones, which load libraries and record graphs, are left out.

    Parameters
    ----------
    spec : RunSpec
        Its micro-batch is the one that is used.
    data : WindowData
        All that the view of the run is a part of.
    """
    data, device = view_windows(data, spec.view), resolve_device(execution)
    with executing(execution, device):
        began = time.perf_counter()
        stepper = Stepper(spec, data, execution=execution, device=device)
        start_s = time.perf_counter() - began
        groups = _whole_groups(data, spec.training.effective_batch_size, device)
        n_windows = len(groups[0])

        def step(group: Tensor) -> None:
            stepper.step = 0  # the schedule of a short run ends before we do
            stepper.update(group)

        def validate(origins: Tensor) -> None:
            observe(
                stepper.model, stepper.windows, origins, scoring=scoring_of(data.spec), execution=execution
            )

        scored = torch.from_numpy(data.origins["val_select"][:_N_SCORED]).to(device)
        step_s = _seconds(step, itertools.cycle(groups), device)
        return StepTimes(
            step_s / n_windows,
            _seconds(validate, itertools.repeat(scored), device) / len(scored),
            start_s,
        )


def _whole_groups(data: WindowData, size: int, device: torch.device) -> list[Tensor]:
    """Return the windows of whole steps; all there are where they are too few for one."""
    groups = torch.from_numpy(data.origins["train"]).to(device).split(size)
    return [group for group in groups if len(group) == size] or [groups[0]]


def _seconds(work: Callable[[Tensor], None], origins: Iterator[Tensor], device: torch.device) -> float:
    """Return the mean seconds of a call, once it is warm."""
    _repeat(work, origins, device, at_most=_N_WARM_UP)
    n_calls, seconds = _repeat(work, origins, device, at_most=_N_TIMED)
    return seconds / n_calls


def _repeat(
    work: Callable[[Tensor], None], origins: Iterator[Tensor], device: torch.device, *, at_most: int
) -> tuple[int, float]:
    """Call it until there have been enough calls or enough time has passed; the device has then ended too."""
    began, n_calls = time.perf_counter(), 0
    while n_calls < at_most and time.perf_counter() - began < _ENOUGH_S:
        work(next(origins))
        n_calls += 1
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return n_calls, time.perf_counter() - began
