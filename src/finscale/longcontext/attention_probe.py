"""What the last query of a trained decoder looks at, layer by layer and head by head.

Attention runs fused and keeps no weights: they are computed again, from the same queries and keys.
B sequences, T tokens, D d_model, L layers, H heads, G key-value heads, h d_head, S slots before the query.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finscale.core.config import Record
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.evaluate import evaluation_samples
from finscale.longcontext.task_names import Task
from finscale.longcontext.tasks import Samples, needle_slot
from finscale.models.contract import Batch
from finscale.models.layers.attention import Attention, Place
from finscale.models.layers.counts import bands
from finscale.models.layers.key_values import Seen

__all__ = ["N_PARTS", "AttentionRow", "attention_rows", "attention_table", "last_weights", "probed_lengths"]

N_PARTS = 10
"""Parts that the haystack is cut into for a profile; the query itself is one more."""

_N_SEQUENCES = 4
_PLACED: tuple[Task, ...] = ("needle", "latest")


class AttentionRow(Record):
    """Where one head looks when a key is queried: means over n sequences.

    Parameters
    ----------
    task, length, depth, mode, seed
        The question, one of the evaluation's own, and the decoder.
    layer, head : int
        Counted from 0.
    n : int
        Sequences.
    weight, stderr : float
        On the slot of the needle, and its standard error.
    earlier : float
        On all earlier writes of the queried key, which ``latest`` has.
    profile : tuple of float
        On each tenth of the haystack, the oldest first, and on the query itself; together 1.
    """

    task: Task
    length: int
    depth: float
    mode: str
    seed: int
    layer: int
    head: int
    n: int
    weight: float
    stderr: float
    earlier: float
    profile: tuple[float, ...]


def attention_table(rows: list[AttentionRow]) -> pd.DataFrame:
    """Return the rows as a tidy table."""
    return pd.DataFrame([row.model_dump() for row in rows], columns=list(AttentionRow.model_fields))


def attention_rows(
    model: nn.Module, config: LongContextConfig, *, mode: str, seed: int
) -> Iterator[AttentionRow]:
    """Yield one row per place, layer and head: about the length trained at, and the longest that is asked.

    Parameters
    ----------
    model : nn.Module
        A decoder in evaluation mode.
    config : LongContextConfig
        Of its block; the sequences are the first of those that the evaluation asks.
    mode, seed
        Of the decoder.
    """
    for task, length, depth in config.evaluation.places():
        if task not in _PLACED or depth is None or length not in probed_lengths(config, task):
            continue
        asked = evaluation_samples(config, task=task, length=length, depth=depth, seed=seed)
        samples = Samples(asked.tokens[:_N_SEQUENCES], asked.scored[:_N_SEQUENCES])
        weights_LBHT = _weights(model, samples.tokens, config.evaluation.tokens_per_batch)
        where = {"task": task, "length": length, "depth": depth, "mode": mode, "seed": seed}
        yield from _rows(weights_LBHT, samples, where)


def probed_lengths(config: LongContextConfig, task: Task) -> tuple[int, ...]:
    """Return the longest length of a task within training, or else its shortest, and the longest."""
    asked = [length for name, length, _ in config.evaluation.places() if name == task]
    trained = max(config.decoder_training.lengths)
    near = max((length for length in asked if length <= trained), default=min(asked))
    return tuple(dict.fromkeys((near, max(asked))))


def last_weights(
    attention: Attention,
    x_BTD: Float[Tensor, "B T D"],
    *,
    window_size: int | None,
    n_sinks: int,
    place: Place,
) -> Float[Tensor, "B H T"]:
    """Return the weights that causal attention gives each token when the last one asks.

    Parameters
    ----------
    attention : Attention
        Its output at the last token is the output layer of these weights times its values.
    x_BTD : Tensor
        What it is given.
    window_size, n_sinks, place
        As in `Attention`.
    """
    queries, keys, _ = attention.heads(attention.query_key_value(x_BTD), place)
    n_tokens, d_head = queries.shape[2:]
    (band,) = bands(n_queries=1, n_keys=n_tokens, window_size=window_size)
    seen = Seen(min(n_sinks, band.first_key), band.first_key, n_tokens)
    last, keys, bias = place.relate(queries[:, :, -1:], seen.of(keys, dim=2), seen=seen, causal=True)
    keys_BHSh = keys.repeat_interleave(last.shape[1] // keys.shape[1], dim=1)
    scores = last @ keys_BHSh.mT / math.sqrt(d_head) + (0 if bias is None else bias)
    weights = x_BTD.new_zeros(len(x_BTD), attention.n_heads, n_tokens)
    weights[:, :, seen.of(torch.arange(n_tokens), dim=0)] = scores[:, :, 0].softmax(dim=-1)
    return weights


def _weights(model: nn.Module, tokens: np.ndarray, tokens_per_batch: int) -> Float[Tensor, "L B H T"]:
    """Return the last query's weights in every layer; the answer is not among the tokens."""
    found: list[Tensor] = []

    def listen(attention: Any, read: tuple[Tensor], options: dict[str, Any]) -> None:
        seen = {name: options[name] for name in ("window_size", "n_sinks", "place")}
        found.append(last_weights(attention, *read, **seen))

    layers = [module for module in model.modules() if isinstance(module, Attention)]
    handles = [layer.register_forward_pre_hook(listen, with_kwargs=True) for layer in layers]
    parts = []
    try:
        with torch.inference_mode():
            for part in torch.from_numpy(tokens[:, :-1]).split(max(1, tokens_per_batch // tokens.shape[1])):
                model(Batch(tokens=part))
                parts.append(torch.stack(found))
                found.clear()
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(parts, dim=1)


def _rows(
    weights_LBHT: Float[Tensor, "L B H T"], samples: Samples, where: dict[str, Any]
) -> Iterator[AttentionRow]:
    """Split the weights into slots and say what each head gives the needle."""
    slots_LBHS = weights_LBHT[..., :-1].unflatten(-1, (-1, 2)).sum(dim=-1)
    needle, n = needle_slot(where["length"], where["depth"]), len(samples.tokens)
    needle_LBH = slots_LBHS[..., needle]
    earlier_LH = (slots_LBHS * _earlier(samples, needle)[None, :, None]).sum(dim=-1).mean(dim=1)
    profile_LHP = _profile(slots_LBHS, weights_LBHT[..., -1]).mean(dim=1)
    stderr_LH = (
        needle_LBH.std(dim=1) / math.sqrt(n) if n > 1 else needle_LBH.new_full(earlier_LH.shape, math.nan)
    )
    for layer, head in np.ndindex(*earlier_LH.shape):
        yield AttentionRow(
            **where,
            layer=layer,
            head=head,
            n=n,
            weight=needle_LBH[layer, :, head].mean().item(),
            stderr=stderr_LH[layer, head].item(),
            earlier=earlier_LH[layer, head].item(),
            profile=tuple(profile_LHP[layer, head].tolist()),
        )


def _earlier(samples: Samples, needle: int) -> Bool[Tensor, "B S"]:
    """Return True for the slots that wrote the queried key before the needle did."""
    keys_BS = torch.from_numpy(samples.tokens[:, :-2:2])
    queried_B1: Int[Tensor, "B 1"] = torch.from_numpy(samples.tokens[:, -2:-1])
    wrote_BS = keys_BS == queried_B1
    wrote_BS[:, needle] = False
    return wrote_BS


def _profile(slots_LBHS: Tensor, query_LBH: Tensor) -> Float[Tensor, "L B H P"]:
    """Return the weight of each part of the haystack, and of the query."""
    n_slots = slots_LBHS.shape[-1]
    part_S = torch.arange(n_slots) * N_PARTS // n_slots
    parts = slots_LBHS.new_zeros(*slots_LBHS.shape[:-1], N_PARTS).index_add(-1, part_S, slots_LBHS)
    return torch.cat((parts, query_LBH[..., None]), dim=-1)
