"""Count parameters and floating-point operations from a config alone; no torch.

N parameters, T context_length, F features, P patches, S tokens in attention, d d_model, C outputs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.core.hashing import content_hash
from finscale.models.config import PatchTSTConfig, TransformerConfig

__all__ = ["Flops", "ParamCount", "arch_id", "count_params", "flops", "n_patches", "n_tokens"]

Config = PatchTSTConfig | TransformerConfig


class ParamCount(Record):
    """Parameters by group; `total` is N."""

    embedding: int
    positions: int
    body: int
    head: int

    @property
    def total(self) -> int:
        """All parameters, equal to the sum of ``numel`` over the built model."""
        return self.embedding + self.positions + self.body + self.head


class Flops(Record):
    """Floating-point operations of the matrix products for one window; a multiply-add counts two.

    ``training`` is forward and backward: three times the forward, less the gradient of real-valued inputs,
    which nobody asks for. A causal mask saves nothing here: all T x T scores are counted.
    """

    forward: int
    training: int


class _Sizes(NamedTuple):
    """What the window and the head bring to a config."""

    n_features: int
    context_length: int
    n_outputs: int


def n_patches(*, context_length: int, patch_length: int, stride: int) -> int:
    """Return how many whole patches fit into a context.

    Examples
    --------
    >>> n_patches(context_length=60, patch_length=10, stride=5)
    11
    """
    if context_length < patch_length:
        got = f"context_length={context_length}, patch_length={patch_length}"
        raise Fault("context_length", "hold at least one patch", got, "lengthen it or shorten patch_length")
    return (context_length - patch_length) // stride + 1


def n_tokens(config: Config, *, context_length: int) -> int:
    """Return S, the tokens attention sees for one window (a ``cls`` token included)."""
    if isinstance(config, TransformerConfig):
        return context_length
    return _patches_of(config, context_length) + (config.pooling == "cls")


def count_params(config: Config, *, n_features: int, context_length: int, n_outputs: int = 1) -> ParamCount:
    """Return the exact parameter count by group, in closed form.

    A decoder takes its sizes from its vocabulary: of a ``transformer`` only ``config`` enters.

    Examples
    --------
    >>> config = PatchTSTConfig(d_model=128, n_layers=160, n_heads=8, d_ff=512)
    >>> count_params(config, n_features=25, context_length=60).total
    31757441
    """
    return _COUNTERS[config.family](config, _Sizes(n_features, context_length, n_outputs))


def flops(config: Config, *, n_features: int, context_length: int, n_outputs: int = 1) -> Flops:
    """Return the exact matrix-product operations for one window."""
    return _FLOPS[config.family](config, _Sizes(n_features, context_length, n_outputs))


def arch_id(config: Config, *, n_features: int, context_length: int) -> str:
    """Return the content hash of an architecture: the whole config except dropout, plus F and T."""
    architecture = config.model_dump(mode="json", exclude={"dropout"})
    return content_hash(architecture, {"n_features": n_features, "context_length": context_length})


def _patches_of(config: PatchTSTConfig, context_length: int) -> int:
    return n_patches(context_length=context_length, patch_length=config.patch_length, stride=config.stride)


def _block_params(d: int, d_ff: int, *, conv_taps: int = 0) -> int:
    attention, feed_forward, norms = 4 * d * d + 4 * d, 2 * d * d_ff + d_ff + d, 4 * d
    convolution = d * conv_taps + d if conv_taps else 0
    return attention + feed_forward + norms + convolution


def _patchtst_params(config: PatchTSTConfig, sizes: _Sizes) -> ParamCount:
    d, n_positions = config.d_model, _patches_of(config, sizes.context_length)
    d_read = d * (n_positions if config.pooling == "flatten" else 1)
    return ParamCount(
        embedding=config.patch_length * sizes.n_features * d + d + (d if config.pooling == "cls" else 0),
        positions=n_positions * d,
        body=config.n_layers * _block_params(d, config.d_ff) + 2 * d,
        head=d_read * sizes.n_outputs + sizes.n_outputs,
    )


def _transformer_params(config: TransformerConfig, sizes: _Sizes) -> ParamCount:
    d, vocab = config.d_model, config.vocab_size
    block = _block_params(d, config.d_ff, conv_taps=config.conv_taps)
    return ParamCount(
        embedding=vocab * d, positions=0, body=config.n_layers * block + 2 * d, head=d * vocab + vocab
    )


def _block_flops(tokens: int, d: int, d_ff: int, *, conv_taps: int = 0) -> int:
    projections, scores_and_mix = 8 * tokens * d * d, 4 * tokens * tokens * d
    return projections + scores_and_mix + 4 * tokens * d * d_ff + 2 * tokens * d * conv_taps


def _patchtst_flops(config: PatchTSTConfig, sizes: _Sizes) -> Flops:
    d, patches = config.d_model, _patches_of(config, sizes.context_length)
    embedding = 2 * patches * config.patch_length * sizes.n_features * d
    tokens = n_tokens(config, context_length=sizes.context_length)
    head = 2 * d * (patches if config.pooling == "flatten" else 1) * sizes.n_outputs
    forward = embedding + config.n_layers * _block_flops(tokens, d, config.d_ff) + head
    return Flops(forward=forward, training=3 * forward - embedding)


def _transformer_flops(config: TransformerConfig, sizes: _Sizes) -> Flops:
    tokens, d = sizes.context_length, config.d_model
    block = _block_flops(tokens, d, config.d_ff, conv_taps=config.conv_taps)
    forward = config.n_layers * block + 2 * tokens * d * config.vocab_size
    return Flops(forward=forward, training=3 * forward)


_COUNTERS: dict[str, Callable[[Any, _Sizes], ParamCount]] = {
    "patchtst": _patchtst_params,
    "transformer": _transformer_params,
}
_FLOPS: dict[str, Callable[[Any, _Sizes], Flops]] = {
    "patchtst": _patchtst_flops,
    "transformer": _transformer_flops,
}
