"""What goes into every model and what comes out: ``forward(batch, state=None) -> ModelOutput``.

B windows in the batch, T context_length, F features, D d_model, C classes.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Batch", "ModelOutput", "State"]


@dataclass(frozen=True)
class Batch:
    """One micro-batch of contexts.

    Parameters
    ----------
    values : Tensor or None
        Real-valued bars (B, T, F), standardised; models of real-valued bars need them.
    tokens : Tensor or None
        Symbols (B, T), int64; models of symbols need them.
    calendar : Tensor or None
        Calendar fields per bar (B, T, fields), int64.
    mask : Tensor or None
        Validity (B, T): True where a bar or symbol is real, False where it is padding.
    positions : Tensor or None
        Absolute index of each of the T steps, int64; counted from 0 when absent.
    """

    values: Float[Tensor, "B T F"] | None = None
    tokens: Int[Tensor, "B T"] | None = None
    calendar: Int[Tensor, "B T fields"] | None = None
    mask: Bool[Tensor, "B T"] | None = None
    positions: Int[Tensor, " T"] | None = None


@dataclass(frozen=True)
class State:
    """What a model carries from one chunk of a sequence to the next, one entry per layer."""

    layers: tuple[Any, ...]


@dataclass(frozen=True)
class ModelOutput:
    """What a model returns.

    Parameters
    ----------
    prediction : dict
        By head: ``logits`` (B, C), C = 1 for a binary target; ``next_symbol`` (B, T, C) of a decoder.
    embedding : Tensor
        One vector per window (B, D).
    state : State or None
        The new state of a streaming model.
    """

    prediction: dict[str, Tensor]
    embedding: Float[Tensor, "B D"]
    state: State | None = None
