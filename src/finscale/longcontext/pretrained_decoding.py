"""How a pretrained model is decoded: as it is asked to be, whatever its checkpoint recommends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finscale.core.errors import Fault, raise_faults

__all__ = ["Decoding", "generation_config"]


@dataclass(frozen=True)
class Decoding:
    """What `finscale.longcontext.pretrained.PretrainedDecoder.generate` is asked for; its words."""

    n_new: int
    n_beams: int
    temperature: float
    top_k: int | None
    top_p: float | None


def generation_config(asked: Decoding, told: Any, *, chunk_length: int) -> Any:
    """Return what transformers reads.

    Parameters
    ----------
    asked : Decoding
        Every option of it is set, because transformers fills in defaults of its own.
    told : transformers.GenerationConfig
        The checkpoint's, for its special tokens.
    chunk_length : int
        Tokens of a prompt read at once, so that activations do not grow with it.

    Raises
    ------
    FinscaleError
        When an option is out of its range or would have no effect.
    """
    raise_faults([*_faults(asked), *_idle_faults(asked)])
    from transformers import GenerationConfig

    drawn: dict[str, Any] = {"do_sample": False}
    if asked.temperature > 0:
        among = {"top_k": asked.top_k or 0, "top_p": asked.top_p or 1.0}
        drawn = {"do_sample": True, "temperature": asked.temperature, **among}
    ends = told.eos_token_id[0] if isinstance(told.eos_token_id, list) else told.eos_token_id
    padding = ends if told.pad_token_id is None else told.pad_token_id
    sizes = {"max_new_tokens": asked.n_new, "num_beams": asked.n_beams, "prefill_chunk_size": chunk_length}
    return GenerationConfig(**sizes, **drawn, pad_token_id=padding)


def _faults(asked: Decoding) -> Iterator[Fault]:
    counts = {"n_new": asked.n_new, "n_beams": asked.n_beams, "top_k": asked.top_k}
    for name, number in counts.items():
        if number is not None and number < 1:
            yield Fault(name, "be at least 1", number)
    if not 0 <= asked.temperature < float("inf"):
        yield Fault("temperature", "be 0 (the likeliest token) or above", asked.temperature)
    if asked.top_p is not None and not 0 < asked.top_p <= 1:
        yield Fault("top_p", "be above 0 and at most 1", asked.top_p)


def _idle_faults(asked: Decoding) -> Iterator[Fault]:
    for name, option in {"top_k": asked.top_k, "top_p": asked.top_p}.items():
        if asked.temperature == 0 and option is not None:
            yield Fault(name, "be left out at temperature=0, where nothing is drawn", option, "remove it")
