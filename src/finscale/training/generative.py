"""A trained decoder of symbols by itself: what `finscale.models.generate` needs, without a run around it."""

from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.core.files import read_json, replacing, write_json
from finscale.models.config import TransformerConfig
from finscale.models.registry import build_model
from finscale.windows.vocabulary import Vocabulary

__all__ = ["load_decoder", "save_decoder"]

_WEIGHTS, _CONFIG = "model.safetensors", "model.json"
_REMEDY = "export the run again"


class _Decoder(Record):
    format: Literal["finscale-decoder-1"] = "finscale-decoder-1"
    config: TransformerConfig
    context_length: int
    vocabulary: Vocabulary


def save_decoder(folder: Path, model: nn.Module, *, context_length: int, vocabulary: Vocabulary) -> None:
    """Write weights and configuration of a decoder, and the labels of its symbols by code."""
    told = _Decoder(config=model.config, context_length=context_length, vocabulary=vocabulary)
    with replacing(folder / _WEIGHTS) as temporary:
        save_file({name: weights.contiguous() for name, weights in model.state_dict().items()}, temporary)
    write_json(folder / _CONFIG, told.model_dump(mode="json"))


def load_decoder(folder: Path | str) -> tuple[nn.Module, Vocabulary]:
    """Return the decoder that `save_decoder` wrote, on the CPU, and the labels of its symbols by code.

    Raises
    ------
    FinscaleError
        When a file is missing or damaged.
    """
    told = _Decoder.read(read_json(Path(folder) / _CONFIG, remedy=_REMEDY), subject=_CONFIG)
    model = build_model(told.config, n_features=0, context_length=told.context_length, seed=0)
    try:
        weights: dict[str, torch.Tensor] = load_file(Path(folder) / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise Fault(str(Path(folder) / _WEIGHTS), "be readable weights", str(error), _REMEDY) from None
    model.load_state_dict(weights)
    return model.eval(), told.vocabulary
