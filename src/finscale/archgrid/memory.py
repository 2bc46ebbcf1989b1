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
    """One forward pass: windows B, tokens B x S, and bytes per number kept in a branch and in a mask."""

    windows: int
    tokens: int
    branch: int
    mask: int


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
        Of any family; its dropout decides whether masks are kept.
    n_features, context_length, n_outputs : int
        F, T and C.
    micro_batch_size : int
        B, windows per forward.
    precision : str
        ``bf16`` keeps the branches in 2 bytes (autocast) and the residual stream in 4.
    device_type : str
        A dropout mask takes one byte on ``cuda``, elsewhere as many as the numbers it masks.

    Notes
    -----
    The terms are those of Korthikanti et al. 2022 ("Reducing Activation Recomputation in Large Transformer
    Models", section 4), counted for these blocks; attention is fused, so no score matrix is kept.
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
    branch = _BRANCH_BYTES[precision]
    mask = 1 if device_type == "cuda" else branch
    tokens = windows * n_tokens(config, context_length=context_length)
    return _Load(windows, tokens, branch, mask if config.dropout else 0)


def _block_bytes(config: Config, load: _Load) -> int:
    """Two residual inputs; two norm outputs, query, key, value and mix; two feed-forward inners; masks."""
    d, d_ff = config.d_model, config.d_ff
    residual, branch, masks = 2 * d * _FP32, (6 * d + 2 * d_ff) * load.branch, 2 * d * load.mask
    statistics = (4 + config.n_heads) * _FP32
    decoder = _decoder_extras(config) * load.branch if isinstance(config, TransformerConfig) else 0
    return load.tokens * (residual + branch + masks + statistics + decoder)


def _decoder_extras(config: TransformerConfig) -> int:
    """Numbers per token: the padded convolution input; rotated query and key, and a mix of their layout."""
    return config.d_model * ((config.conv_taps > 0) + 3 * (config.positions == "rope"))


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
