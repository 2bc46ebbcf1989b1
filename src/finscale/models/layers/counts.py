"""Parameters and matrix-product operations of the block, and of the Transformer, in closed form; no torch.

T tokens, W window_size, d d_model, F real-valued columns, C outputs.
"""

from typing import NamedTuple

from finscale.models.attractor_counts import attractor_flops, attractor_params
from finscale.models.head_config import head_width
from finscale.models.position_config import CalendarConfig
from finscale.models.position_counts import position_flops, position_params
from finscale.models.transformer_config import TransformerConfig

__all__ = [
    "MOST_KEYS",
    "Band",
    "Counted",
    "bands",
    "block_flops",
    "block_params",
    "norm_params",
    "transformer_flops",
    "transformer_params",
]

MOST_KEYS = 48
"""Tokens up to which `finscale.models.layers.few_keys` attends faster than torch's fused kernel on a CPU."""

_BAND_QUERIES = 512


class Band(NamedTuple):
    """Queries ``first`` .. ``stop`` - 1 of a call look at no key before ``first_key``."""

    first: int
    stop: int
    first_key: int


class Counted(NamedTuple):
    """Parameters of a model by group."""

    embedding: int
    positions: int
    body: int
    head: int


def bands(*, n_queries: int, n_keys: int, window_size: int | None) -> list[Band]:
    """Cut causal attention with a window into bands of at most 512 queries; without a window there is one.

    The queries are the last ``n_queries`` of the keys. A band reads at most 512 + W - 1 keys, so memory does
    not grow with the square of the context.

    Examples
    --------
    >>> bands(n_queries=1000, n_keys=1000, window_size=100)
    [Band(first=0, stop=512, first_key=0), Band(first=512, stop=1000, first_key=413)]
    """
    if window_size is None or window_size >= n_keys:
        return [Band(0, n_queries, 0)]
    past = n_keys - n_queries
    starts = range(0, n_queries, _BAND_QUERIES)
    return [
        Band(first, min(first + _BAND_QUERIES, n_queries), max(0, past + first - window_size + 1))
        for first in starts
    ]


def norm_params(norm: str, d: int) -> int:
    """Return the parameters of one norm: weight and bias, or weight alone under ``rms_norm``."""
    return d if norm == "rms_norm" else 2 * d


def block_params(
    d: int,
    d_ff: int,
    *,
    n_heads: int,
    n_kv_heads: int | None = None,
    activation: str = "gelu",
    norm: str = "layer_norm",
    conv_taps: int = 0,
    bias: bool = True,
    gated: bool = False,
) -> int:
    """Return the parameters of one `Block`.

    Examples
    --------
    >>> block_params(128, 512, n_heads=8)
    198272
    """
    d_kv, n_up = _kv_width(d, n_heads, n_kv_heads), _n_up(activation)
    attention = 2 * d * d + 2 * d * d_kv + (2 * d + 2 * d_kv) * bias
    feed_forward = (n_up + 1) * d * d_ff + (n_up * d_ff + d) * bias
    convolution = d * conv_taps + d if conv_taps else 0
    gate = (d * d + d + norm_params("layer_norm", d)) * gated
    return attention + feed_forward + 2 * norm_params(norm, d) + convolution + gate


def block_flops(
    n_tokens: int,
    d: int,
    d_ff: int,
    *,
    n_heads: int,
    n_kv_heads: int | None = None,
    activation: str = "gelu",
    conv_taps: int = 0,
    window_size: int | None = None,
    n_sinks: int = 0,
    gated: bool = False,
) -> int:
    """Return the forward operations of one `Block` over one window; a multiply-add counts two.

    A causal mask saves nothing: all T x T scores are counted, or all those of the `bands` of a window.
    """
    projections = 4 * n_tokens * d * (d + _kv_width(d, n_heads, n_kv_heads)) + 2 * n_tokens * d * d * gated
    n_scores = _n_scores(n_tokens, window_size, n_sinks)
    feed_forward = 2 * n_tokens * d * d_ff * (_n_up(activation) + 1)
    return projections + 4 * n_scores * d + feed_forward + 2 * n_tokens * d * conv_taps


def transformer_params(
    config: TransformerConfig, *, n_features: int = 0, context_length: int = 0, n_outputs: int = 1
) -> Counted:
    """Return the exact parameter count by group.

    Parameters
    ----------
    config : TransformerConfig
        A decoder over symbols takes its sizes from its vocabulary and needs nothing else.
    n_features, context_length : int
        Real-valued columns and T.
    n_outputs : int
        C of a logits head.
    """
    d, final_norm = config.d_model, norm_params(config.norm, config.d_model) * config.norm_first
    block = block_params(
        d,
        config.d_ff,
        n_heads=config.n_heads,
        n_kv_heads=config.kv_heads,
        activation=config.activation,
        norm=config.norm,
        conv_taps=config.conv_taps,
        bias=config.bias,
    )
    width = output_width(config, n_outputs=n_outputs)
    return Counted(
        embedding=_embedding_params(config, n_features),
        positions=position_params(config.positions, d_model=d, max_length=context_length),
        body=config.n_layers * block + _attractors_params(config) + final_norm,
        head=d * width + width,
    )


def transformer_flops(
    config: TransformerConfig, *, n_features: int = 0, context_length: int, n_outputs: int = 1
) -> tuple[int, int]:
    """Return (forward, training) operations of one window; looking a symbol up costs nothing."""
    d, tokens = config.d_model, context_length
    block = block_flops(
        tokens,
        d,
        config.d_ff,
        n_heads=config.n_heads,
        n_kv_heads=config.kv_heads,
        activation=config.activation,
        conv_taps=config.conv_taps,
        window_size=config.window_size,
        n_sinks=config.n_sinks,
    )
    real = 2 * tokens * n_features * config.real_embedding_dim
    joint = 2 * tokens * config.initial_width * (config.joint_embedding_dim or 0)
    head = 2 * n_read(config, tokens) * d * output_width(config, n_outputs=n_outputs)
    body = config.n_layers * block + _position_flops(config, tokens)
    attractors = _attractors_flops(config, tokens)
    plain = real + joint + body + head
    return plain + attractors[0], 3 * plain - real + attractors[1]


def output_width(config: TransformerConfig, *, n_outputs: int = 1) -> int:
    """Return how many numbers the output layer gives for one token it reads."""
    if config.predicts_symbols:
        return config.vocab_size or 0
    width = head_width(config.window_head, n_outputs=n_outputs)
    return width // (config.prediction_length or 1)


def n_read(config: TransformerConfig, n_tokens: int) -> int:
    """Return how many tokens the output layer reads: the last ones, or all of them."""
    if config.prediction_length is not None:
        return min(config.prediction_length, n_tokens)
    return n_tokens if config.predicts_symbols else 1


def _attractors_params(config: TransformerConfig) -> int:
    if config.attractor is None:
        return 0
    one = attractor_params(config.attractor, config.d_model, n_heads=config.n_heads, bias=config.bias)
    return len(config.injected_layers) * one


def _attractors_flops(config: TransformerConfig, n_tokens: int) -> tuple[int, int]:
    if config.attractor is None:
        return 0, 0
    one = attractor_flops(config.attractor, n_tokens, config.d_model, n_heads=config.n_heads)
    return len(config.injected_layers) * one[0], len(config.injected_layers) * one[1]


def _n_scores(n_tokens: int, window_size: int | None, n_sinks: int) -> int:
    """How many scores are computed, masked ones included; sinks before a band are read by it as well."""
    parts = bands(n_queries=n_tokens, n_keys=n_tokens, window_size=window_size)
    return sum(
        (part.stop - part.first) * (part.stop - part.first_key + min(n_sinks, part.first_key))
        for part in parts
    )


def _position_flops(config: TransformerConfig, n_tokens: int) -> int:
    """A calendar is mapped once. What changes scores does so in every layer, within its window.

    The columns of causal alibi widen values as well as keys; without a causal mask there are none.
    """
    added = position_flops(
        config.positions, d_model=config.d_model, n_heads=config.n_heads, n_tokens=n_tokens
    )
    if isinstance(config.positions, CalendarConfig):
        return added
    times = 2 * config.causal if config.positions.kind == "alibi" else 1
    return (
        config.n_layers
        * times
        * added
        * _n_scores(n_tokens, config.window_size, config.n_sinks)
        // n_tokens**2
    )


def _embedding_params(config: TransformerConfig, n_features: int) -> int:
    if config.vocab_size is not None:
        return config.vocab_size * config.d_model
    columns = zip(config.categories, config.feature_embedding_dims, strict=True)
    lookups = sum(n_values * width for n_values, width in columns)
    real, joint = config.real_embedding_dim, config.joint_embedding_dim
    linear = (n_features + 1) * real
    return lookups + linear + (0 if joint is None else (config.initial_width + 1) * joint)


def _kv_width(d: int, n_heads: int, n_kv_heads: int | None) -> int:
    return d // n_heads * (n_heads if n_kv_heads is None else n_kv_heads)


def _n_up(activation: str) -> int:
    """How many maps lead up to d_ff: a gated activation has two."""
    return 2 if activation == "swiglu" else 1
