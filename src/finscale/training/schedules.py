"""The learning rate as a pure function of the optimizer step: linear warm-up, then cosine or constant.

Steps count from 0; ``total_steps`` is the length of the full schedule, whatever caps a run.
"""

import math

from finscale.training.config import TrainingConfig

__all__ = ["learning_rate_at", "warmup_steps_used"]


def warmup_steps_used(warmup_steps: int, total_steps: int) -> int:
    """Return the warm-up as executed: at most one step less than the whole schedule."""
    return min(warmup_steps, total_steps - 1)


def learning_rate_at(step: int, *, training: TrainingConfig, total_steps: int) -> float:
    """Return the rate of optimizer step ``step``.

    Warm-up step k of w has the rate peak * (k + 1) / w. The cosine falls from peak at step w towards 0 at
    ``total_steps`` (Loshchilov and Hutter 2017, without restarts).

    Examples
    --------
    >>> config = TrainingConfig(learning_rate=1.0, epochs=1, weight_decay=0, warmup_steps=2)
    >>> [round(learning_rate_at(k, training=config, total_steps=6), 3) for k in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    warmup = warmup_steps_used(training.warmup_steps, total_steps)
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    if training.schedule == "constant":
        return training.learning_rate
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total_steps - warmup)))
