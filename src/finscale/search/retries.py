"""How a trial starts again that ran out of memory, or whose worker went away."""

import math
from collections.abc import Callable
from typing import Final, Literal

from finscale.archgrid.batching import BatchConfig, split_batch

__all__ = ["MAX_BATCH_HALVINGS", "MAX_LOSSES", "OomPolicy", "smaller_batch"]

OomPolicy = Literal["accumulate", "halve_batch"]

MAX_BATCH_HALVINGS: Final = 3
MAX_LOSSES: Final = 3
"""A trial that lost as many workers, and then one more, is held to have ended them."""


def smaller_batch(batch: BatchConfig, policy: OomPolicy) -> BatchConfig:
    """Halve the micro-batch, rounding up.

    Parameters
    ----------
    policy : str
        ``accumulate`` doubles the accumulation, and the effective batch stays; ``halve_batch`` halves the
        effective batch as well, and the accumulation stays.

    Examples
    --------
    >>> whole = split_batch(64, effective_batch_size=128)
    >>> [smaller_batch(whole, policy).accumulation_steps for policy in ("accumulate", "halve_batch")]
    [4, 2]
    """
    return split_batch(
        math.ceil(batch.micro_batch_size / 2),
        effective_batch_size=_EFFECTIVE[policy](batch.effective_batch_size),
        activation_checkpointing=batch.activation_checkpointing,
    )


def _accumulate(effective_batch_size: int) -> int:
    return effective_batch_size


def _halve_batch(effective_batch_size: int) -> int:
    return math.ceil(effective_batch_size / 2)


_EFFECTIVE: Final[dict[OomPolicy, Callable[[int], int]]] = {
    "accumulate": _accumulate,
    "halve_batch": _halve_batch,
}
