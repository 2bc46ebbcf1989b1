"""The learning rate as a pure function of the optimizer step: a warm-up, then one of four shapes.

Steps count from 0; ``total_steps`` is the length of the full schedule, whatever caps a run.
"""

import math
from collections.abc import Callable
from typing import Final

from finscale.training.config import TrainingConfig

__all__ = ["learning_rate_at", "warmup_steps_used"]

Shape = Callable[[TrainingConfig, float, int], float]


def warmup_steps_used(warmup_steps: int, total_steps: int) -> int:
    """Return the warm-up as executed: at most one step less than the whole schedule."""
    return min(warmup_steps, total_steps - 1)


def learning_rate_at(step: int, *, training: TrainingConfig, total_steps: int) -> float:
    """Return the rate of optimizer step ``step``.

    Warm-up step k of w has the rate peak * (k + 1) / w, or peak * ``warmup_factor`` throughout. From peak at
    step w the linear and the cosine shape (Loshchilov and Hutter 2017, without restarts) fall towards 0 at
    ``total_steps``; the exponential falls between epochs alone and stays at peak to the end of
    ``flat_epochs``, which count from the first, the warm-up's included.

    Examples
    --------
    >>> config = TrainingConfig(learning_rate=1.0, epochs=1, weight_decay=0, warmup_steps=2)
    >>> [round(learning_rate_at(k, training=config, total_steps=6), 3) for k in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    warmup = warmup_steps_used(training.warmup_steps, total_steps)
    if step < warmup:
        return training.learning_rate * _warm(training.warmup_factor, (step + 1) / warmup)
    share = (step - warmup) / (total_steps - warmup)
    epoch = 1 + step * training.epochs // total_steps
    return training.learning_rate * _SHAPES[training.schedule](training, share, epoch)


def _warm(factor: float | None, share: float) -> float:
    return share if factor is None else factor


def _constant(training: TrainingConfig, share: float, epoch: int) -> float:
    return 1.0


def _linear(training: TrainingConfig, share: float, epoch: int) -> float:
    return 1.0 - share


def _cosine(training: TrainingConfig, share: float, epoch: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def _exponential(training: TrainingConfig, share: float, epoch: int) -> float:
    assert training.decay_per_epoch is not None
    return training.decay_per_epoch ** max(0, epoch - (training.flat_epochs or 1))


_SHAPES: Final[dict[str, Shape]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "exponential": _exponential,
}
"""By name: ``shape(training, share, epoch)`` in peaks, ``share`` of the way from the warm-up to the end."""
