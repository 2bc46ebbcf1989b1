"""The models of one long-context evaluation. No torch.

A *mode* is one row of every table: a model that differs from the block's ``model`` in what its variant says.
"""

from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, FinscaleError, raise_faults, suggest
from finscale.longcontext.ablations import Ablation, overlaid
from finscale.longcontext.decoder_config import SymbolConfig
from finscale.longcontext.pretrained_config import PretrainedConfig, PretrainedModelConfig
from finscale.models.config import TransformerConfig

__all__ = ["Modes", "ReadAs", "Settings"]

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


class Modes(Record):
    """The part of a block that says which models there are; the parameters are those of the block."""

    model: Settings = Field(default_factory=dict)
    variants: dict[str, Settings] = Field(default_factory=dict)
    ablation: Ablation | None = None
    read_as: dict[str, ReadAs] = Field(default_factory=dict)
    symbols: SymbolConfig | None = None
    pretrained: PretrainedConfig | None = None

    @property
    def settings(self) -> dict[str, Settings]:
        """What every mode is, in the order of the tables: variants, values of the ablation, read_as."""
        trained = self._trained
        read = {name: overlaid(trained[way.weights_of], way.changes) for name, way in self.read_as.items()}
        return {**trained, **read}

    @property
    def modes(self) -> tuple[str, ...]:
        """Every mode."""
        return tuple(self.settings)

    @property
    def trained(self) -> tuple[str, ...]:
        """The modes that have weights of their own."""
        return tuple(self._trained)

    @property
    def _trained(self) -> dict[str, Settings]:
        own = {name: overlaid(self.model, changes) for name, changes in self.variants.items()}
        values = self.ablation.settings(self.model) if self.ablation else {}
        return {**own, **values} or {"model": self.model}

    def weights_of(self, mode: str) -> str:
        """Return the mode whose weights this one has."""
        return self.read_as[mode].weights_of if mode in self.read_as else mode

    @property
    def decoder_symbols(self) -> SymbolConfig:
        """The symbols of a block that trains decoders."""
        assert self.symbols is not None
        return self.symbols

    def transformer(self, mode: str) -> TransformerConfig:
        """Return the config of a decoder over the block's symbols."""
        return self._decoder(mode, vocab_size=self.decoder_symbols.vocab_size)

    def pretrained_model(self, mode: str) -> PretrainedModelConfig:
        """Return what a mode changes in the checkpoint."""
        return PretrainedModelConfig.read(self.settings[mode], subject=f"variants.{mode}")

    def _decoder(self, mode: str, *, vocab_size: int) -> TransformerConfig:
        settings = {**self.settings[mode], "vocab_size": vocab_size}
        return TransformerConfig.read(settings, subject=f"variants.{mode}")

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        raise_faults(self._faults())
        return self

    def _faults(self) -> Iterator[Exception]:
        unread = list(self._read_as_faults())
        yield from unread or self._mode_faults()

    def _read_as_faults(self) -> Iterator[Fault]:
        trained = self.trained
        for name, way in self.read_as.items():
            if way.weights_of not in trained or name in trained:
                rule = "read the weights of a trained mode under a name of its own"
                yield Fault(f"read_as.{name}", rule, way.weights_of, suggest(way.weights_of, trained))

    def _mode_faults(self) -> Iterator[Exception]:
        """Yield the faults of every mode; what all modes share is told once."""
        told = {str(fault): fault for mode in self.modes for fault in self._faults_of(mode)}
        yield from told.values()
        if self.pretrained is None and "none" not in self.modes:
            rule = "hold the mode none: a table without it cannot show whether a task needs positions"
            yield Fault("variants", rule, list(self.modes), "add none: {positions: none}")

    def _faults_of(self, mode: str) -> Iterator[Exception]:
        try:
            if self.pretrained is not None:
                self.pretrained_model(mode)
            else:
                # symbols that are missing are a fault of their own
                self._decoder(mode, vocab_size=self.symbols.vocab_size if self.symbols else 1)
        except FinscaleError as error:
            for fault in error.faults or (error,):
                yield self._at_its_place(fault, mode)

    def _at_its_place(self, fault: Exception, mode: str) -> Exception:
        """Name ``model`` as the place of a fault in what the mode has from there."""
        subject = fault.subject if isinstance(fault, Fault) else ""
        setting = subject.removeprefix(f"variants.{mode}.")
        key = setting.split(".")[0]
        shared = key in self.model and self.settings[mode].get(key) is self.model[key]
        if setting == subject or not shared:
            return fault
        assert isinstance(fault, Fault)
        return Fault(f"model.{setting}", fault.rule, fault.got, fault.remedy)
