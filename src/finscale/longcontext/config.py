"""What one long-context evaluation is: models, how they come about, what they are asked. No torch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, PositiveInt, ValidationError, field_validator

from finscale.core.config import Record, faults_of
from finscale.core.errors import Fault, FinscaleError, raise_faults, suggest
from finscale.longcontext.block_files import block_of
from finscale.longcontext.decoder_config import DecoderTraining
from finscale.longcontext.gate_config import GateConfig
from finscale.longcontext.modes import Modes, Settings
from finscale.longcontext.pretrained_config import SystemConfig, TuningConfig
from finscale.longcontext.task_names import (
    ENGINE_TASKS,
    SYMBOL_TASKS,
    TEXT_TASKS,
    Task,
    is_placed,
    named_tasks,
)
from finscale.longcontext.text_config import GenerationConfig

__all__ = ["LongContextConfig", "RetrievalConfig", "StreamConfig", "read_block"]

Share = Annotated[float, Field(ge=0, le=1)]


class RetrievalConfig(Record):
    """What every model is asked; the same questions for all of them.

    Parameters
    ----------
    benchmarks : tuple of str
        Tasks, or names of several (``ruler``, ``infinitebench``, ``recall``, ``multi_hop``, ``aggregation``);
        ``lm_eval:niah_single_1`` and its like are asked and scored by lm-evaluation-harness.
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


class LongContextConfig(Modes):
    """One named block of the long-context evaluation.

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
    pretrained, tuning, generation, system : PretrainedConfig, TuningConfig, GenerationConfig, SystemConfig
        Of a checkpoint, in place of them.
    evaluation, streaming, gates : RetrievalConfig, StreamConfig, GateConfig
        What is asked, what is measured, and what is concluded.

    Examples
    --------
    >>> text = "{experiment_name: mine, pretrained: {}, evaluation: {lengths: [4096], n_samples: 20}}"
    >>> block = LongContextConfig.from_yaml(text)
    >>> LongContextConfig.from_yaml(block.to_yaml()) == block
    True
    """

    experiment_name: str
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    training: DecoderTraining | None = None
    tuning: TuningConfig | None = None
    generation: GenerationConfig | None = None
    system: SystemConfig | None = None
    evaluation: RetrievalConfig
    streaming: StreamConfig | None = None
    gates: GateConfig = GateConfig()

    @classmethod
    def from_yaml(cls, source: str | Path, name: str | None = None) -> Self:
        """Return a block out of a YAML file or text.

        Parameters
        ----------
        source : str or Path
            A file, or a text; a ``str`` is a file where it is one line that ends in ``.yml`` or ``.yaml``.
        name : str or None
            Of the block among several (``long_context_blocks``); None where there is one.

        Raises
        ------
        FinscaleError
            When there is no such file or block, or with one line per fault of the block.
        """
        subject, settings = block_of(source, name)
        return cls.read(settings, subject=subject)

    def to_yaml(self) -> str:
        """Return the block as YAML, defaults written out; `from_yaml` reads it back as it is."""
        named = {"experiment_name": self.experiment_name, **self.model_dump(mode="json")}
        return yaml.safe_dump(named, sort_keys=False, allow_unicode=True)

    def validate(self) -> Self:  # type: ignore[override]
        """Return the block, all of it checked again: ``model_copy(update=...)`` does not check.

        Raises
        ------
        FinscaleError
            With one line per fault.
        """
        return self.read(self.model_dump(warnings=False))

    @classmethod
    def read(cls, values: Mapping[str, Any], *, subject: str = "") -> Self:
        """Validate ``values``; raise every fault at once, those of modes beside those of other fields."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise_faults([*faults_of(error, cls, subject), *_unseen_faults(values, error)])
            raise

    @property
    def n_rows(self) -> int:
        """Rows of the whole evaluation: places by mode and seed."""
        return len(list(self.evaluation.places())) * len(self.modes) * len(self.seeds)

    @property
    def decoder_training(self) -> DecoderTraining:
        """The recipe of a block that trains decoders."""
        assert self.training is not None
        return self.training

    def _faults(self) -> Iterator[Exception]:
        ours = list(self._kind_faults())
        yield from ours
        modes = list(super()._faults())
        yield from modes
        if not modes:
            yield from self._stream_faults()
        if not ours and self.pretrained is None:
            yield from self._training_faults()
            yield from self._evaluation_faults()

    def _kind_faults(self) -> Iterator[Fault]:
        ours: Settings = {"symbols": self.symbols, "training": self.training}
        theirs: Settings = {"tuning": self.tuning, "generation": self.generation, "system": self.system}
        needed, extra = (ours, theirs) if self.pretrained is None else ({}, {**ours, "read_as": self.read_as})
        kind = "decoders trained here" if self.pretrained is None else "a pretrained model"
        for name in (name for name, part in needed.items() if part is None):
            yield Fault(name, f"be given for {kind}", "nothing", f"add {name}, or pretrained")
        for name in (name for name, part in extra.items() if part):
            yield Fault(name, f"be left out for {kind}", "given", "remove it")
        legal = SYMBOL_TASKS if self.pretrained is None else (*TEXT_TASKS, *ENGINE_TASKS)
        for task in (task for task in self.evaluation.tasks if task not in legal):
            yield Fault("evaluation.benchmarks", f"be tasks for {kind}", task, f"use some of {legal}")

    def _stream_faults(self) -> Iterator[Fault]:
        for mode in self.streaming.modes if self.streaming else ():
            if mode not in self.modes:
                yield Fault("streaming.modes", "be modes of the block", mode, suggest(mode, self.modes))

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


def _unseen_faults(values: Mapping[str, Any], error: ValidationError) -> tuple[Exception, ...]:
    """Return the faults of modes, which nobody looks at where a field is faulty."""
    faulty = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
    if not faulty or not isinstance(values, Mapping):
        return ()
    kept = {name: values[name] for name in Modes.model_fields if name in values and name not in faulty}
    if "pretrained" in faulty:
        kept["pretrained"] = {}
    try:
        Modes.read(kept)
    except FinscaleError as fault:
        return fault.faults or (fault,)
    return ()


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
    config = LongContextConfig.read(blocks[name], subject=f"long_context_blocks.{name}")
    if value is None:
        return config
    if config.ablation is None:
        raise Fault("ablation_value", "be left out of a block without an ablation", value, "remove it")
    return config.model_copy(update={"ablation": config.ablation.only(str(value))})
