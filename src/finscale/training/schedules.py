"""The learning rate as a pure function of the optimizer step: a warm-up, then one of five shapes.

Steps count from 0; ``total_steps`` is the length of the full schedule, whatever caps a run.
"""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from finscale.training.config import TrainingConfig

__all__ = ["learning_rate_at", "schedule_used", "warmup_steps_used"]

Shape = Callable[[TrainingConfig, "_Place"], float]

_FIRST, _LAST = 1 / 25, 1 / 25e4
"""Where one cycle starts and ends, in peaks: the defaults of `torch.optim.lr_scheduler.OneCycleLR`."""


class _Place(NamedTuple):
    """A step of a schedule of ``total`` steps, ``warmup`` of which warm up."""

    step: int
    warmup: int
    total: int

    @property
    def share(self) -> float:
        """Of the way from the end of the warm-up to the end of the schedule."""
        return (self.step - self.warmup) / (self.total - self.warmup)


def warmup_steps_used(warmup_steps: int, total_steps: int) -> int:
    """Return the warm-up as executed: at most one step less than the whole schedule."""
    return min(warmup_steps, total_steps - 1)


def schedule_used(training: TrainingConfig, *, total_steps: int) -> str:
    """Return the shape of the rate in words, its warm-up as executed.

    Examples
    --------
    >>> config = TrainingConfig(learning_rate=1.0, epochs=1, weight_decay=0, warmup_steps=2)
    >>> schedule_used(config, total_steps=6)
    'cosine after a linear warm-up'
    """
    if training.schedule == "onecycle" or not warmup_steps_used(training.warmup_steps, total_steps):
        return training.schedule
    form = "linear" if training.warmup_factor is None else "constant"
    return f"{training.schedule} after a {form} warm-up"


def learning_rate_at(step: int, *, training: TrainingConfig, total_steps: int) -> float:
    """Return the rate of optimizer step ``step``.

    Warm-up step k of w has the rate peak * (k + 1) / w, or peak * ``warmup_factor`` throughout. From peak at
    step w the linear and the cosine shape (Loshchilov and Hutter 2017, without restarts) fall towards 0 at
    ``total_steps``; the exponential falls between epochs alone and stays at peak to the end of
    ``flat_epochs``, which count from the first, the warm-up's included. One cycle (Smith and Topin 2018, as
    torch has it, momentum left alone) rises on a half cosine from peak / 25 to the peak at step w - 1 and
    falls on another to peak / 250,000 at the last step.

    Examples
    --------
    >>> config = TrainingConfig(learning_rate=1.0, epochs=1, weight_decay=0, warmup_steps=2)
    >>> [round(learning_rate_at(k, training=config, total_steps=6), 3) for k in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    place = _Place(step, warmup_steps_used(training.warmup_steps, total_steps), total_steps)
    shapes = _WARM_UPS if step < place.warmup else _SHAPES
    return training.learning_rate * shapes[training.schedule](training, place)


def _rising(training: TrainingConfig, place: _Place) -> float:
    return training.warmup_factor or (place.step + 1) / place.warmup


def _rising_cycle(training: TrainingConfig, place: _Place) -> float:
    return _half_cosine(_FIRST, 1.0, place.step / max(1, place.warmup - 1))


def _falling_cycle(training: TrainingConfig, place: _Place) -> float:
    return _half_cosine(1.0, _LAST, (place.step - place.warmup + 1) / (place.total - place.warmup))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def _constant(training: TrainingConfig, place: _Place) -> float:
    return 1.0


def _linear(training: TrainingConfig, place: _Place) -> float:
    return 1.0 - place.share


def _cosine(training: TrainingConfig, place: _Place) -> float:
    return 0.5 * (1 + math.cos(math.pi * place.share))


def _exponential(training: TrainingConfig, place: _Place) -> float:
    assert training.decay_per_epoch is not None
    epoch = 1 + place.step * training.epochs // place.total
    return training.decay_per_epoch ** max(0, epoch - (training.flat_epochs or 1))


_SHAPES: Final[dict[str, Shape]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "exponential": _exponential,
    "onecycle": _falling_cycle,
}
"""By name: the rate after the warm-up, in peaks."""

_WARM_UPS: Final[dict[str, Shape]] = {**dict.fromkeys(_SHAPES, _rising), "onecycle": _rising_cycle}
"""By name: the rate during the warm-up, in peaks."""
