"""Keep trained decoders as plain tensors with a record of how they came about, and build them again."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.core.hashing import content_hash
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.train import TrainedDecoder, build_decoder

__all__ = ["DecoderRecord", "TrainingRecord", "pack", "training_hash", "training_record", "unpack"]


_TRAINED = {"seeds", "model", "variants", "ablation", "symbols", "training"}


class DecoderRecord(Record):
    """One trained decoder: loss in nats and accuracy are those of its last batch."""

    mode: str
    seed: int
    n_params: int
    n_steps: int
    loss: float
    accuracy: float
    runtime_s: float


class TrainingRecord(Record):
    """All decoders of a block; ``training_hash`` covers everything but what is asked of them later."""

    training_hash: str
    decoders: tuple[DecoderRecord, ...]


def training_hash(config: LongContextConfig) -> str:
    """Return the hash of all that decides the weights."""
    return content_hash(config.model_dump(mode="json", include=_TRAINED))


def training_record(config: LongContextConfig, decoders: Iterable[TrainedDecoder]) -> TrainingRecord:
    """Return what is known of the decoders, from what ran."""
    records = tuple(_record(decoder) for decoder in decoders)
    return TrainingRecord(training_hash=training_hash(config), decoders=records)


def pack(decoders: Iterable[TrainedDecoder]) -> dict[str, Tensor]:
    """Return every weight of every decoder as ``{"rope/0/head.weight": tensor}``."""
    return {
        f"{_prefix(decoder.mode, decoder.seed)}{name}": weights.detach().contiguous()
        for decoder in decoders
        for name, weights in decoder.model.state_dict().items()
    }


def unpack(
    weights: Mapping[str, Tensor], record: Mapping[str, Any], config: LongContextConfig
) -> Iterator[tuple[str, int, nn.Module]]:
    """Yield mode, seed and model, in evaluation mode, of every decoder of the block.

    Raises
    ------
    FinscaleError
        When the weights were trained under another configuration, or some are missing.
    """
    found, expected = TrainingRecord.read(record, subject="decoders"), training_hash(config)
    if found.training_hash != expected:
        rule = f"have the training_hash of this block, {expected}"
        raise Fault("decoders", rule, found.training_hash, "train them again")
    for mode in config.modes:
        for seed in config.seeds:
            yield mode, seed, _rebuild(weights, config, mode=mode, seed=seed)


def _rebuild(weights: Mapping[str, Tensor], config: LongContextConfig, *, mode: str, seed: int) -> nn.Module:
    prefix = _prefix(config.weights_of(mode), seed)
    model = build_decoder(config, mode=mode, seed=seed)
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    missing = sorted(model.state_dict().keys() - own.keys())
    if missing:
        raise Fault(f"weights {prefix}", "be complete", f"none for {missing[0]}", "train them again")
    model.load_state_dict(own)
    return model.eval()


def _record(decoder: TrainedDecoder) -> DecoderRecord:
    last = decoder.steps[-1]
    return DecoderRecord(
        mode=decoder.mode,
        seed=decoder.seed,
        n_params=decoder.n_params,
        n_steps=last.step,
        loss=last.loss,
        accuracy=last.accuracy,
        runtime_s=decoder.runtime_s,
    )


def _prefix(mode: str, seed: int) -> str:
    return f"{mode}/{seed}/"
