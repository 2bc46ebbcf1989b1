"""What goes into every model and what comes out: ``forward(batch, state=None) -> ModelOutput``.

B windows in the batch, T context_length, F features, D d_model, C classes or channels, H horizons,
Q quantile levels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from finscale.core.errors import Fault

__all__ = ["Batch", "ModelOutput", "State", "evaluating", "only_values", "without_padding"]


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
    categories : Tensor or None
        Codes of the categorical columns of a bar (B, T, K), int64, each counted from 0.
    """

    values: Float[Tensor, "B T F"] | None = None
    tokens: Int[Tensor, "B T"] | None = None
    calendar: Int[Tensor, "B T fields"] | None = None
    mask: Bool[Tensor, "B T"] | None = None
    positions: Int[Tensor, " T"] | None = None
    categories: Int[Tensor, "B T K"] | None = None


@dataclass(frozen=True)
class State:
    """What a model carries from one chunk of a sequence to the next, one entry per layer."""

    layers: tuple[Any, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of memory that all layers keep alive."""
        return sum(layer.n_bytes for layer in self.layers)


@dataclass(frozen=True)
class ModelOutput:
    """What a model returns.

    Parameters
    ----------
    prediction : dict
        By head: ``logits`` (B, C), C = 1 for a binary target; ``classes`` (B, sum of C), those of
        several columns side by side; ``regression`` (B,); ``quantiles`` (B, H, Q); ``forecast`` (B, H, C);
        ``next_symbol`` (B, T, C) of a decoder.
    embedding : Tensor
        One vector per window (B, D).
    state : State or None
        The new state of a streaming model.
    """

    prediction: dict[str, Tensor]
    embedding: Float[Tensor, "B D"]
    state: State | None = None


def only_values(
    batch: Batch,
    state: State | None,
    *,
    window_shape: tuple[int, int],
    family: str,
    calendar: bool = False,
    mask: bool = False,
) -> Float[Tensor, "B T F"]:
    """Return the bars of a batch; refuse whatever a model of whole windows would have to ignore.

    Parameters
    ----------
    batch, state : Batch, State or None
        As handed to ``forward``.
    window_shape : (int, int)
        T and F that the model was built for.
    family : str
        Name of the model in messages.
    calendar : bool
        Whether the model reads the calendar fields; they must then be there.
    mask : bool
        Whether the model reads the validity of bars; it may then be there.

    Raises
    ------
    Fault
        On another shape, on anything else in the batch, or without the calendar fields.
    """
    read = {"values", *(("calendar",) if calendar else ()), *(("mask",) if mask else ())}
    every = {**vars(batch), "state": state}
    unused = [name for name, field in every.items() if field is not None and name not in read]
    if unused:
        raise Fault("batch", f"hold values only for {family}", unused, "leave them out")
    if batch.values is None or tuple(batch.values.shape[1:]) != window_shape:
        got = None if batch.values is None else tuple(batch.values.shape)
        raise Fault("batch.values", f"have shape (B, {window_shape[0]}, {window_shape[1]})", got)
    if calendar and batch.calendar is None:
        raise Fault("batch.calendar", f"be given to this {family}", None, "its positions are the calendar")
    return batch.values


def without_padding(
    x_BTX: Shaped[Tensor, "B T X"], mask_BT: Bool[Tensor, "B T"] | None
) -> Shaped[Tensor, "B T X"]:
    """Return zeros where there is padding, whatever it holds (NaN too)."""
    return x_BTX if mask_BT is None else x_BTX.masked_fill(~mask_BT[:, :, None], 0)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run the model with dropout off and without gradients; its mode is as before afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
