"""What one long-context evaluation is: models, how they come about, what they are asked. No torch.

A *mode* is one row of every table: a model that differs from the block's ``model`` in what its variant says.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, FinscaleError, raise_faults, suggest
from finscale.longcontext.ablations import Ablation, overlaid
from finscale.longcontext.decoder_config import DecoderTraining, SymbolConfig
from finscale.longcontext.gate_config import GateConfig
from finscale.longcontext.pretrained_config import (
    PretrainedConfig,
    PretrainedModelConfig,
    SystemConfig,
    TuningConfig,
)
from finscale.longcontext.task_names import SYMBOL_TASKS, TEXT_TASKS, Task, is_placed, named_tasks
from finscale.longcontext.text_config import GenerationConfig
from finscale.models.config import TransformerConfig

__all__ = ["LongContextConfig", "ReadAs", "RetrievalConfig", "StreamConfig", "read_block"]

Share = Annotated[float, Field(ge=0, le=1)]
Settings = dict[str, Any]


class ReadAs(Record):
    """A mode that is not trained: the weights of another, read under other settings.

    Parameters
    ----------
    weights_of : str
        A trained mode.
    changes : dict
        What differs from that mode.
    """

    weights_of: str
    changes: Settings


class RetrievalConfig(Record):
    """What every model is asked; the same questions for all of them.

    Parameters
    ----------
    benchmarks : tuple of str
        Tasks, or names of several (``ruler``, ``infinitebench``, ``recall``, ``multi_hop``, ``aggregation``).
    lengths : tuple of int
        Symbols or tokens of a sequence, question included.
    depths : tuple of float
        Where the needle stands in the haystack, 0 its first slot and 1 its last.
    n_samples : int
        Sequences per task, length, depth and seed.
    n_recall : int or None
        Sequences of a task without depths; it asks several keys of each. None means n_samples.
    longest : dict
        Tasks, by the same names, that are not asked beyond a length.
    tokens_per_batch : int
        Symbols per forward pass; it moves time and memory, not results.
    """

    benchmarks: tuple[str, ...] = ("needle", "latest")
    lengths: tuple[PositiveInt, ...]
    depths: tuple[Share, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    n_samples: PositiveInt
    n_recall: PositiveInt | None = None
    longest: dict[str, PositiveInt] = Field(default_factory=dict)
    tokens_per_batch: PositiveInt = 8192

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The benchmarks one by one, each once."""
        return tuple(dict.fromkeys(task for name in self.benchmarks for task in named_tasks(name)))

    def places(self) -> Iterator[tuple[Task, int, float | None]]:
        """Yield every task, length and depth that is asked; depth None where the task has none."""
        most = {task: most for name, most in self.longest.items() for task in named_tasks(name)}
        for task in self.tasks:
            for length in (length for length in self.lengths if length <= most.get(task, length)):
                for depth in self.depths if is_placed(task) else (None,):
                    yield task, length, depth

    def n_sequences(self, task: Task) -> int:
        """Return how many sequences a place is asked."""
        return self.n_samples if is_placed(task) else self.n_recall or self.n_samples

    @field_validator("benchmarks", "longest")
    @classmethod
    def _are_known(cls, names: Any) -> Any:
        for name in names:
            named_tasks(name)
        return names


class StreamConfig(Record):
    """What reading in chunks costs: modes to read with, and how far.

    Parameters
    ----------
    modes : tuple of str
        Of them; each length is read in a fresh process, untrained: weights do not move the cost.
    lengths : tuple of int
        Symbols to read.
    chunk_length : int
        Symbols of one call.
    """

    modes: tuple[str, ...]
    lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    chunk_length: PositiveInt = 512


class LongContextConfig(Record):
    """One named block of ``long_context_blocks``.

    Parameters
    ----------
    experiment_name : str
        Title of its results.
    seeds : tuple of int
        Of weights, batches and questions.
    model : dict
        Settings that all modes share: of `TransformerConfig` for a decoder trained here, of
        `PretrainedModelConfig` for a checkpoint.
    variants : dict
        By mode, what it changes in ``model``; without them and an ablation there is one mode, ``model``.
    ablation : Ablation or None
        Further modes that differ in one setting alone.
    read_as : dict
        Modes that read the weights of another.
    symbols, training : SymbolConfig, DecoderTraining or None
        Of decoders trained here; both or neither.
    pretrained, tuning, generation, system
        Of a checkpoint, in place of them.
    evaluation, streaming, gates
        What is asked, what is measured, and what is concluded.
    """

    experiment_name: str
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    model: Settings = Field(default_factory=dict)
    variants: dict[str, Settings] = Field(default_factory=dict)
    ablation: Ablation | None = None
    read_as: dict[str, ReadAs] = Field(default_factory=dict)
    symbols: SymbolConfig | None = None
    training: DecoderTraining | None = None
    pretrained: PretrainedConfig | None = None
    tuning: TuningConfig | None = None
    generation: GenerationConfig | None = None
    system: SystemConfig | None = None
    evaluation: RetrievalConfig
    streaming: StreamConfig | None = None
    gates: GateConfig = GateConfig()

    @property
    def settings(self) -> dict[str, Settings]:
        """What every mode is, in the order of the tables: variants, values of the ablation, read_as."""
        own = {name: overlaid(self.model, changes) for name, changes in self.variants.items()}
        values = self.ablation.settings(self.model) if self.ablation else {}
        trained = {**own, **values} or {"model": self.model}
        read = {name: overlaid(trained[way.weights_of], way.changes) for name, way in self.read_as.items()}
        return {**trained, **read}

    @property
    def modes(self) -> tuple[str, ...]:
        """Every mode."""
        return tuple(self.settings)

    @property
    def trained(self) -> tuple[str, ...]:
        """The modes that have weights of their own."""
        return tuple(mode for mode in self.settings if mode not in self.read_as)

    @property
    def n_rows(self) -> int:
        """Rows of the whole evaluation: places by mode and seed."""
        return len(list(self.evaluation.places())) * len(self.modes) * len(self.seeds)

    def weights_of(self, mode: str) -> str:
        """Return the mode whose weights this one has."""
        return self.read_as[mode].weights_of if mode in self.read_as else mode

    def transformer(self, mode: str) -> TransformerConfig:
        """Return the config of a decoder over the block's symbols."""
        settings = {**self.settings[mode], "vocab_size": self.decoder_symbols.vocab_size}
        return TransformerConfig.read(settings, subject=f"variants.{mode}")

    def pretrained_model(self, mode: str) -> PretrainedModelConfig:
        """Return what a mode changes in the checkpoint."""
        return PretrainedModelConfig.read(self.settings[mode], subject=f"variants.{mode}")

    @property
    def decoder_symbols(self) -> SymbolConfig:
        """The symbols of a block that trains decoders."""
        assert self.symbols is not None
        return self.symbols

    @property
    def decoder_training(self) -> DecoderTraining:
        """The recipe of a block that trains decoders."""
        assert self.training is not None
        return self.training

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        raise_faults(self._kind_faults())
        raise_faults(self._mode_faults())
        if self.pretrained is None:
            raise_faults([*self._training_faults(), *self._evaluation_faults()])
        return self

    def _kind_faults(self) -> Iterator[Fault]:
        ours: Settings = {"symbols": self.symbols, "training": self.training}
        theirs: Settings = {"tuning": self.tuning, "generation": self.generation, "system": self.system}
        needed, extra = (ours, theirs) if self.pretrained is None else ({}, {**ours, "read_as": self.read_as})
        kind = "decoders trained here" if self.pretrained is None else "a pretrained model"
        for name in (name for name, part in needed.items() if part is None):
            yield Fault(name, f"be given for {kind}", "nothing", f"add {name}, or pretrained")
        for name in (name for name, part in extra.items() if part):
            yield Fault(name, f"be left out for {kind}", "given", "remove it")
        legal = SYMBOL_TASKS if self.pretrained is None else TEXT_TASKS
        for task in (task for task in self.evaluation.tasks if task not in legal):
            yield Fault("evaluation.benchmarks", f"be tasks for {kind}", task, f"use some of {legal}")

    def _mode_faults(self) -> Iterator[Exception]:
        trained = {*self.variants, *(self.ablation.values if self.ablation else ())}
        for name, way in self.read_as.items():
            if way.weights_of not in trained or name in trained:
                rule = "read the weights of a trained mode under a name of its own"
                yield Fault(f"read_as.{name}", rule, way.weights_of, suggest(way.weights_of, trained))
                return
        for mode in self.streaming.modes if self.streaming else ():
            if mode not in self.modes:
                yield Fault("streaming.modes", "be modes of the block", mode, suggest(mode, self.modes))
        read = self.transformer if self.pretrained is None else self.pretrained_model
        for mode in self.modes:
            try:
                read(mode)
            except FinscaleError as fault:
                yield fault
        if self.pretrained is None and "none" not in self.modes:
            rule = "hold the mode none: a table without it cannot show whether a task needs positions"
            yield Fault("variants", rule, list(self.modes), "add none: {positions: none}")

    def _training_faults(self) -> Iterator[Fault]:
        training = self.decoder_training
        least, most = self.decoder_symbols.shortest_training, training.tokens_per_step
        rule = f"be even, from {least} (every write and query) to {most} (tokens_per_step)"
        wrong = [length for length in training.lengths if length % 2 or not least <= length <= most]
        if wrong or not training.lengths:
            yield Fault("training.lengths", rule, wrong or "none", "change them")

    def _evaluation_faults(self) -> Iterator[Fault]:
        symbols = self.decoder_symbols
        shallow, n_overwrites = min(self.evaluation.depths, default=0.0), symbols.n_overwrites
        n_written = n_overwrites + symbols.n_active - 1
        rule = f"be even and hold {n_written} writes, {n_overwrites} of them up to depth {shallow}"
        sizes: Settings = {"depth": shallow, "n_overwrites": n_overwrites, "n_written": n_written}
        wrong = [length for length in self.evaluation.lengths if not _holds(length, **sizes)]
        if wrong or not self.evaluation.lengths or not self.evaluation.depths:
            yield Fault("evaluation.lengths", rule, wrong or "no length or no depth", "change them")


def _holds(length: int, *, depth: float, n_overwrites: int, n_written: int) -> bool:
    n_haystack = length // 2 - 1
    return length % 2 == 0 and n_haystack >= n_written and round(depth * (n_haystack - 1)) >= n_overwrites - 1


def read_block(name: str, blocks: Mapping[str, Any], *, value: str | None = None) -> LongContextConfig:
    """Return the named block; every fault of it is raised at once.

    Parameters
    ----------
    name : str
        Of the block.
    blocks : mapping
        ``long_context_blocks``.
    value : str or None
        Of its ablation, which then has this value alone (``ablation_value``).

    Raises
    ------
    FinscaleError
        When there is no such block or value, or with one line per fault.
    """
    if name not in blocks:
        raise Fault("long_context", "name a block", name, suggest(str(name), blocks))
    config = LongContextConfig.read(blocks[name], subject=f"long_context.{name}")
    if value is None:
        return config
    if config.ablation is None:
        raise Fault("ablation_value", "be left out of a block without an ablation", value, "remove it")
    return config.model_copy(update={"ablation": config.ablation.only(str(value))})
