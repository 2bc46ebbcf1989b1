"""The small decoder that is trained here: its symbols, its mixes, its recipe. No torch.

L symbols in a sequence, S = L / 2 slots of one key and one value each.
"""

from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.training.config import TrainingConfig

__all__ = ["DecoderTraining", "MixConfig", "SymbolConfig"]

Share = Annotated[float, Field(ge=0, le=1)]


class SymbolConfig(Record):
    """The alphabet, and how much of it one sample uses.

    Parameters
    ----------
    n_keys, n_values, n_noise : int
        Symbols of each kind, numbered in this order.
    n_active : int
        Keys that one sample writes.
    n_overwrites : int
        Writes of a key that is overwritten, each with another value.
    """

    n_keys: PositiveInt = 32
    n_values: PositiveInt = 32
    n_noise: PositiveInt = 16
    n_active: Annotated[int, Field(ge=2)] = 8
    n_overwrites: Annotated[int, Field(ge=2)] = 4

    @property
    def vocab_size(self) -> int:
        """All symbols."""
        return self.n_keys + self.n_values + self.n_noise

    @property
    def overwrite_counts(self) -> tuple[int, ...]:
        """Writes of each active key in a training sample of the mix *overwrite*: half are overwritten."""
        n_overwritten = self.n_active // 2
        return (self.n_overwrites,) * n_overwritten + (1,) * (self.n_active - n_overwritten)

    @property
    def shortest_training(self) -> int:
        """The least L that holds every write and every query of a training sample."""
        return 2 * (sum(self.overwrite_counts) + self.n_active)

    @model_validator(mode="after")
    def _kinds_suffice(self) -> Self:
        n_written = max(sum(self.overwrite_counts), self.n_overwrites + self.n_active - 1)
        faults = [
            Fault("n_keys", f"be at least n_active={self.n_active}", self.n_keys, "raise it"),
            Fault(
                "n_values", f"be at least {n_written}, one per write of a sample", self.n_values, "raise it"
            ),
        ]
        short = (self.n_keys < self.n_active, self.n_values < n_written)
        raise_faults(fault for fault, broken in zip(faults, short, strict=True) if broken)
        return self


class MixConfig(Record):
    """Shares of the three kinds of training samples; together 1.

    Parameters
    ----------
    dense, far, overwrite : float
        Writes only, with every repeat of a key scored; each key written once in noise and queried at the
        end; the same with half of the keys overwritten.
    dense_only : float
        Share of the steps, from the first on, that see dense samples alone.
    """

    dense: Share = 0.35
    far: Share = 0.35
    overwrite: Share = 0.30
    dense_only: Share = 0.15

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        shares = (self.dense, self.far, self.overwrite)
        if abs(sum(shares) - 1) > 1e-9:
            raise Fault("training.mix", "have shares dense, far and overwrite that sum to 1", shares)
        return self


class DecoderTraining(Record):
    """How a decoder is trained: a fixed number of steps of AdamW, warm-up then cosine.

    Parameters
    ----------
    learning_rate, weight_decay, warmup_steps, clip_norm
        As in `finscale.training.config.TrainingConfig`.
    n_steps : int
        Steps, never seconds: a slow machine trains the same decoder.
    tokens_per_step : int
        Symbols per step, cut into sequences of one length.
    lengths : tuple of int
        One of them is drawn for every step.
    """

    learning_rate: PositiveFloat = 5e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    clip_norm: PositiveFloat = 1.0
    n_steps: PositiveInt
    tokens_per_step: PositiveInt = 4096
    lengths: tuple[PositiveInt, ...]
    mix: MixConfig = MixConfig()

    @property
    def optimizer(self) -> TrainingConfig:
        """The part that the training loop's optimizer and schedule read."""
        fields = self.model_dump(include={"learning_rate", "weight_decay", "warmup_steps", "clip_norm"})
        return TrainingConfig(epochs=1, **fields)
