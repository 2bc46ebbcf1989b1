"""Count parameters and floating-point operations from a config alone; no torch.

N parameters, T context_length, F features, P patches, S tokens in attention, d d_model.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.core.hashing import content_hash
from finscale.models.config import (
    AnyConfig,
    DLinearConfig,
    MigtTvdtConfig,
    NaiveConfig,
    PatchTSTConfig,
    TransformerConfig,
)
from finscale.models.head_config import ForecastHead, head_width
from finscale.models.layers.counts import (
    block_flops,
    block_params,
    norm_params,
    transformer_flops,
    transformer_params,
)
from finscale.models.migt_tvdt_counts import migt_tvdt_flops, migt_tvdt_params
from finscale.models.position_config import CalendarConfig
from finscale.models.position_counts import position_flops, position_params

__all__ = ["Flops", "ParamCount", "arch_id", "count_params", "flops", "n_patches", "n_tokens"]


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


def n_patches(*, context_length: int, patch_length: int, stride: int, pad_end: bool = False) -> int:
    """Return how many whole patches fit into a context; ``pad_end`` makes room for one more.

    Examples
    --------
    >>> n_patches(context_length=60, patch_length=10, stride=5)
    11
    """
    if context_length < patch_length:
        got = f"context_length={context_length}, patch_length={patch_length}"
        raise Fault("context_length", "hold at least one patch", got, "lengthen it or shorten patch_length")
    return (context_length - patch_length) // stride + 1 + pad_end


def n_tokens(config: AnyConfig, *, context_length: int) -> int:
    """Return S, the tokens of one sequence (a ``cls`` token included); bars where nothing is patched."""
    if isinstance(config, PatchTSTConfig):
        return _patches_of(config, context_length) + (config.pooling == "cls")
    return context_length


def count_params(
    config: AnyConfig, *, n_features: int, context_length: int, n_outputs: int = 1
) -> ParamCount:
    """Return the exact parameter count by group, in closed form.

    A decoder takes its sizes from its vocabulary: of a ``transformer`` only ``config`` enters.

    Examples
    --------
    >>> config = PatchTSTConfig(d_model=128, n_layers=160, n_heads=8, d_ff=512)
    >>> count_params(config, n_features=25, context_length=60).total
    31757441
    """
    return _COUNTERS[config.family](config, _Sizes(n_features, context_length, n_outputs))


def flops(config: AnyConfig, *, n_features: int, context_length: int, n_outputs: int = 1) -> Flops:
    """Return the exact matrix-product operations for one window."""
    return _FLOPS[config.family](config, _Sizes(n_features, context_length, n_outputs))


def arch_id(config: AnyConfig, *, n_features: int, context_length: int) -> str:
    """Return the content hash of an architecture: the whole config except its dropouts, plus F and T."""
    architecture = config.model_dump(mode="json", exclude={"dropout", "head_dropout"})
    return content_hash(architecture, {"n_features": n_features, "context_length": context_length})


def _patches_of(config: PatchTSTConfig, context_length: int) -> int:
    patch, stride = config.patch_length, config.stride
    return n_patches(context_length=context_length, patch_length=patch, stride=stride, pad_end=config.pad_end)


def _patchtst_params(config: PatchTSTConfig, sizes: _Sizes) -> ParamCount:
    d, n_positions = config.d_model, _patches_of(config, sizes.context_length)
    n_read, n_affine = _patch_width(config, sizes), _affine_params(config, sizes)
    block = block_params(d, config.d_ff, n_heads=config.n_heads, norm=config.norm)
    return ParamCount(
        embedding=n_read * d + d + (d if config.pooling == "cls" else 0) + n_affine,
        positions=position_params(config.positions, d_model=d, max_length=n_positions),
        body=config.n_layers * block + norm_params(config.norm, d) * config.norm_first,
        head=_patchtst_head(config, sizes).n_params,
    )


def _patch_width(config: PatchTSTConfig, sizes: _Sizes) -> int:
    """Values in one token."""
    return config.patch_length * (sizes.n_features if config.channels == "mixed" else 1)


def _affine_params(config: PatchTSTConfig, sizes: _Sizes) -> int:
    """Weights and biases of instance normalisation, one of each per feature read."""
    if config.instance_norm != "revin_affine":
        return 0
    mixed = config.channels == "mixed"
    return 2 * (sizes.n_features if mixed else config.n_channels(sizes.n_features))


class _Map(NamedTuple):
    """Parameters of a linear map and its multiply-adds for one window."""

    n_params: int
    n_products: int


def _patchtst_head(config: PatchTSTConfig, sizes: _Sizes) -> _Map:
    patches = _patches_of(config, sizes.context_length) if config.pooling == "flatten" else 1
    n_channels = config.n_channels(sizes.n_features)
    if config.channels == "independent" and isinstance(config.head, ForecastHead):
        return _channel_map(config.head, config.d_model * patches, individual=config.head_per_channel)
    width = head_width(config.head, n_outputs=sizes.n_outputs)
    return _linear(config.d_model * patches * n_channels, width)


def _linear(d_in: int, d_out: int) -> _Map:
    return _Map(d_in * d_out + d_out, d_in * d_out)


def _channel_map(head: ForecastHead, d_in: int, *, individual: bool) -> _Map:
    one = _linear(d_in, head.horizon)
    n_maps = head.n_channels if individual else 1
    return _Map(n_maps * one.n_params, head.n_channels * one.n_products)


def _dlinear_map(config: DLinearConfig, sizes: _Sizes) -> _Map:
    width = head_width(config.head, n_outputs=sizes.n_outputs)
    if isinstance(config.head, ForecastHead):
        return _channel_map(config.head, sizes.context_length, individual=config.individual)
    return _linear(sizes.context_length * sizes.n_features, width)


def _dlinear_params(config: DLinearConfig, sizes: _Sizes) -> ParamCount:
    n_head = 2 * _dlinear_map(config, sizes).n_params
    return ParamCount(embedding=0, positions=0, body=0, head=n_head)


def _naive_params(config: NaiveConfig, sizes: _Sizes) -> ParamCount:
    return ParamCount(embedding=0, positions=0, body=0, head=0)


def _transformer_params(config: TransformerConfig, sizes: _Sizes) -> ParamCount:
    return ParamCount(**transformer_params(config, **sizes._asdict())._asdict())


def _migt_tvdt_params(config: MigtTvdtConfig, sizes: _Sizes) -> ParamCount:
    return ParamCount(**migt_tvdt_params(config, **sizes._asdict())._asdict())


def _patchtst_flops(config: PatchTSTConfig, sizes: _Sizes) -> Flops:
    d, n_sequences = config.d_model, config.n_channels(sizes.n_features)
    patches, tokens = (
        _patches_of(config, sizes.context_length),
        n_tokens(config, context_length=sizes.context_length),
    )
    embedding = n_sequences * 2 * patches * _patch_width(config, sizes) * d
    blocks = n_sequences * config.n_layers * block_flops(tokens, d, config.d_ff, n_heads=config.n_heads)
    head = 2 * _patchtst_head(config, sizes).n_products
    forward = embedding + blocks + n_sequences * _position_flops(config, tokens, patches) + head
    # a learned weight before the embedding asks for the gradient of what the embedding reads
    unasked = 0 if config.instance_norm == "revin_affine" else embedding
    return Flops(forward=forward, training=3 * forward - unasked)


def _position_flops(config: PatchTSTConfig, tokens: int, patches: int) -> int:
    """Operations of one sequence: a calendar is mapped once per patch, scores are changed in every layer."""
    once = isinstance(config.positions, CalendarConfig)
    width = {"d_model": config.d_model, "n_heads": config.n_heads}
    n_tokens_read = patches if once else tokens
    added = position_flops(config.positions, **width, n_tokens=n_tokens_read, causal=False)
    return added if once else config.n_layers * added


def _dlinear_flops(config: DLinearConfig, sizes: _Sizes) -> Flops:
    forward = 2 * 2 * _dlinear_map(config, sizes).n_products
    return Flops(forward=forward, training=2 * forward)


def _naive_flops(config: NaiveConfig, sizes: _Sizes) -> Flops:
    return Flops(forward=0, training=0)


def _transformer_flops(config: TransformerConfig, sizes: _Sizes) -> Flops:
    forward, training = transformer_flops(config, **sizes._asdict())
    return Flops(forward=forward, training=training)


def _migt_tvdt_flops(config: MigtTvdtConfig, sizes: _Sizes) -> Flops:
    forward, training = migt_tvdt_flops(config, **sizes._asdict())
    return Flops(forward=forward, training=training)


_COUNTERS: dict[str, Callable[[Any, _Sizes], ParamCount]] = {
    "patchtst": _patchtst_params,
    "transformer": _transformer_params,
    "migt_tvdt": _migt_tvdt_params,
    "dlinear": _dlinear_params,
    "naive": _naive_params,
}
_FLOPS: dict[str, Callable[[Any, _Sizes], Flops]] = {
    "patchtst": _patchtst_flops,
    "transformer": _transformer_flops,
    "migt_tvdt": _migt_tvdt_flops,
    "dlinear": _dlinear_flops,
    "naive": _naive_flops,
}
