"""Predict the memory of a training step from the config alone; no torch.

B micro-batch, P patches, S tokens per window, d d_model, L n_layers, H n_heads.
"""

from typing import Literal, NamedTuple

from finscale.core.config import Record
from finscale.models.config import PatchTSTConfig, TransformerConfig
from finscale.models.counting import count_params, n_patches, n_tokens

__all__ = ["DeviceType", "MemoryEstimate", "Precision", "predict_memory"]

Config = PatchTSTConfig | TransformerConfig
Precision = Literal["fp32", "bf16"]
DeviceType = Literal["cuda", "mps", "cpu"]

_FP32 = 4
_SCORE_COPIES = 3
_BRANCH_BYTES: dict[str, int] = {"fp32": 4, "bf16": 2}


class MemoryEstimate(Record):
    """Bytes held at the end of a micro-batch's forward pass (Adam, no activation checkpointing).

    Gradients are counted in full, as they are from the second micro-batch of a step on.

    Parameters
    ----------
    parameters, gradients, moments : int
        fp32 weights, their gradients, and Adam's two moments.
    activations : int
        What the forward pass keeps for the backward pass, casts of the weights to bf16 included.
    """

    parameters: int
    gradients: int
    moments: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.gradients + self.moments + self.activations


class _Load(NamedTuple):
    """One forward pass: windows B, tokens B x S, and bytes per kept number in each place."""

    windows: int
    tokens: int
    branch: int
    mask: int
    scores: int


def predict_memory(
    config: Config,
    *,
    n_features: int,
    context_length: int,
    n_outputs: int = 1,
    micro_batch_size: int,
    precision: Precision = "fp32",
    device_type: DeviceType = "cuda",
) -> MemoryEstimate:
    """Return the predicted peak of a training step.

    Parameters
    ----------
    config : model config
        Of any family; its dropout decides which masks are kept.
    n_features, context_length, n_outputs : int
        F, T and C.
    micro_batch_size : int
        B, windows per forward.
    precision : str
        ``bf16`` keeps the branches in 2 bytes (autocast) and the residual stream in 4.
    device_type : str
        On ``cuda`` attention is fused and a dropout mask takes a byte; elsewhere dropout keeps fp32 masks
        and makes attention write out its scores.

    Notes
    -----
    The terms are those of Korthikanti et al. 2022 ("Reducing Activation Recomputation in Large Transformer
    Models", section 4), counted for these blocks.
    """
    sizes = {"n_features": n_features, "context_length": context_length}
    n_params = count_params(config, **sizes, n_outputs=n_outputs).total
    load = _load(config, micro_batch_size, context_length, precision, device_type)
    activations = config.n_layers * _block_bytes(config, load) + _outer_bytes(config, load, **sizes)
    weight_casts = load.branch * n_params if precision == "bf16" else 0
    return MemoryEstimate(
        parameters=_FP32 * n_params,
        gradients=_FP32 * n_params,
        moments=2 * _FP32 * n_params,
        activations=activations + weight_casts,
    )


def _load(
    config: Config, windows: int, context_length: int, precision: Precision, device_type: DeviceType
) -> _Load:
    tokens = n_tokens(config, context_length=context_length)
    plain_dropout = device_type != "cuda" and config.dropout > 0
    return _Load(
        windows=windows,
        tokens=windows * tokens,
        branch=_BRANCH_BYTES[precision],
        mask=0 if not config.dropout else 1 if device_type == "cuda" else _BRANCH_BYTES[precision],
        scores=_SCORE_COPIES * _FP32 * windows * tokens**2 * config.n_heads if plain_dropout else 0,
    )


def _block_bytes(config: Config, load: _Load) -> int:
    """Two residual inputs; two norm outputs, queries, keys, values, mix; two feed-forward inners; masks."""
    d, d_ff = config.d_model, config.d_ff
    plain = load.scores > 0
    query_key_value = 3 * d * (_FP32 if plain else load.branch)
    per_token = 2 * d * _FP32 + 3 * d * load.branch + query_key_value + 2 * d_ff * load.branch
    convolution = 2 * d * load.branch if isinstance(config, TransformerConfig) and config.conv_taps else 0
    statistics = _FP32 * (4 + (0 if plain else config.n_heads))
    return load.tokens * (per_token + convolution + 2 * d * load.mask + statistics) + load.scores


def _outer_bytes(config: Config, load: _Load, *, n_features: int, context_length: int) -> int:
    """Embedding input and mask, final norm, what the head reads."""
    d = config.d_model
    shared = load.tokens * d * (load.mask + _FP32)
    if isinstance(config, TransformerConfig):
        symbols_and_logits = load.tokens * (8 + config.vocab_size * _FP32)
        return shared + symbols_and_logits + load.tokens * d * load.branch
    patches = n_patches(context_length=context_length, patch_length=config.patch_length, stride=config.stride)
    cut = load.windows * patches * config.patch_length * n_features * load.branch
    read = load.windows * d * (patches if config.pooling == "flatten" else 1) * load.branch
    return shared + _FP32 * load.windows * context_length * n_features + cut + read
