"""What one long-context evaluation is: decoders, how they train, what they are asked. No torch.

L symbols in a sequence, S = L / 2 slots of one key and one value each.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults, suggest
from finscale.models.config import TransformerConfig
from finscale.training.config import TrainingConfig

__all__ = [
    "TASKS",
    "DecoderShape",
    "DecoderTraining",
    "LongContextConfig",
    "MixConfig",
    "Positions",
    "RetrievalConfig",
    "SymbolConfig",
    "Task",
    "read_block",
]

Share = Annotated[float, Field(ge=0, le=1)]
Positions = Literal["rope", "none"]
Task = Literal["needle", "latest"]
TASKS: tuple[Task, ...] = ("needle", "latest")


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


class DecoderShape(Record):
    """The decoder that is trained once per positional encoding and seed.

    Parameters
    ----------
    positions : tuple of str
        Encodings to compare; ``none`` is always among them, because a table without it cannot show whether
        a task needs positions at all.
    d_model, n_layers, n_heads, d_ff, conv_taps : int
        As in `finscale.models.config.TransformerConfig`.
    """

    positions: tuple[Positions, ...] = ("rope", "none")
    d_model: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    d_ff: PositiveInt
    conv_taps: Annotated[int, Field(ge=0)] = 3

    def transformer(self, positions: Positions, *, vocab_size: int) -> TransformerConfig:
        """Return the model config under one encoding."""
        shape = self.model_dump(exclude={"positions"})
        return TransformerConfig(positions=positions, vocab_size=vocab_size, **shape)

    @model_validator(mode="after")
    def _none_is_compared_and_shapes_exist(self) -> Self:
        if "none" not in self.positions or len(set(self.positions)) < len(self.positions):
            rule = "name each encoding once, none among them"
            raise Fault("model.positions", rule, self.positions, "try [rope, none]")
        for positions in self.positions:
            self.transformer(positions, vocab_size=1)
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


class RetrievalConfig(Record):
    """What every decoder is asked: both tasks at every length and depth.

    Parameters
    ----------
    lengths : tuple of int
        Symbols L of a sequence, query and answer included; even.
    depths : tuple of float
        Where the needle stands in the haystack, 0 its first slot and 1 its last.
    n_samples : int
        Sequences per task, length, depth and seed.
    tokens_per_batch : int
        Symbols per forward pass; it moves time and memory, not results.
    """

    lengths: tuple[PositiveInt, ...]
    depths: tuple[Share, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    n_samples: PositiveInt
    tokens_per_batch: PositiveInt = 8192


class LongContextConfig(Record):
    """One named block of ``long_context_blocks``."""

    experiment_name: str
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    symbols: SymbolConfig = SymbolConfig()
    model: DecoderShape
    training: DecoderTraining
    evaluation: RetrievalConfig

    @property
    def n_rows(self) -> int:
        """Rows of the whole evaluation: tasks by length, depth, encoding and seed."""
        asked = len(self.evaluation.lengths) * len(self.evaluation.depths)
        return len(TASKS) * asked * len(self.model.positions) * len(self.seeds)

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        raise_faults([*self._training_faults(), *self._evaluation_faults()])
        return self

    def _training_faults(self) -> list[Fault]:
        least, most = self.symbols.shortest_training, self.training.tokens_per_step
        rule = f"be even, from {least} (every write and query) to {most} (tokens_per_step)"
        wrong = [length for length in self.training.lengths if length % 2 or not least <= length <= most]
        if wrong or not self.training.lengths:
            return [Fault("training.lengths", rule, wrong or "none", "change them")]
        return []

    def _evaluation_faults(self) -> list[Fault]:
        shallow, n_overwrites = min(self.evaluation.depths, default=0.0), self.symbols.n_overwrites
        n_written = n_overwrites + self.symbols.n_active - 1
        rule = f"be even and hold {n_written} writes, {n_overwrites} of them up to depth {shallow}"
        wrong = [
            length
            for length in self.evaluation.lengths
            if not _holds(length, shallow, n_overwrites, n_written)
        ]
        if wrong or not self.evaluation.lengths or not self.evaluation.depths:
            return [Fault("evaluation.lengths", rule, wrong or "no length or no depth", "change them")]
        return []


def _holds(length: int, depth: float, n_overwrites: int, n_written: int) -> bool:
    n_haystack = length // 2 - 1
    return length % 2 == 0 and n_haystack >= n_written and round(depth * (n_haystack - 1)) >= n_overwrites - 1


def read_block(name: str, blocks: Mapping[str, Any]) -> LongContextConfig:
    """Return the named block; every fault of it is raised at once.

    Raises
    ------
    FinscaleError
        When there is no such block, or with one line per fault.
    """
    if name not in blocks:
        raise Fault("long_context", "name a block", name, suggest(str(name), blocks))
    return LongContextConfig.read(blocks[name], subject=f"long_context.{name}")
