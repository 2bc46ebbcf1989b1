"""Predict the memory of a training step from the config alone; no torch.

B micro-batch, T context_length, F features, P patches, n tokens of a micro-batch, d d_model, L n_layers.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from finscale.core.config import Record
from finscale.models.attractor_config import AttractorConfig
from finscale.models.attractor_counts import attractor_kept
from finscale.models.config import (
    AnyConfig,
    DLinearConfig,
    MigtTvdtConfig,
    NaiveConfig,
    PatchTSTConfig,
    TransformerConfig,
)
from finscale.models.counting import count_params, n_tokens
from finscale.models.layers.counts import MOST_KEYS, bands, n_read, output_width
from finscale.models.position_counts import alibi_columns

__all__ = ["DeviceType", "MemoryEstimate", "Precision", "predict_memory"]

Precision = Literal["fp32", "bf16", "fp16"]
DeviceType = Literal["cuda", "mps", "cpu"]

_FP32, _INT64 = 4, 8
_BRANCH_BYTES: dict[str, int] = {"fp32": 4, "bf16": 2, "fp16": 2}

_RETAINED: dict[str, float] = {"cuda": 0.0, "mps": 0.0, "cpu": 0.5}
"""Share of the activations that an allocator holds on top of them.

A CPU's tensors are aligned blocks of the C library's heap. glibc splits what was freed and cannot give the
pieces to the next aligned request of that size, so that a process grows to 1.3 to 1.8 times its activations
within a few steps; blocks that are computed again pass through the heap all the same. Measured, not derived:
`benchmarks/bench_memory.py`.
"""

_Stacked = PatchTSTConfig | TransformerConfig | MigtTvdtConfig

_ROTARY = ("rope", "rope_linear", "rope_ntk", "rope_dynamic", "yarn", "hybrid")

_INNER: dict[str, int] = {"gelu": 2, "relu": 1, "swiglu": 4}
"""Tensors of width d_ff that the backward pass of an activation, and of the map after it, reads."""


class MemoryEstimate(Record):
    """Bytes held where a training step holds most, as its backward pass begins (fused Adam).

    Gradients are counted in full, as they are from the second micro-batch of a step on.

    Parameters
    ----------
    parameters, gradients, moments : int
        fp32 weights, their gradients, and Adam's two moments.
    activations : int
        What the forward pass keeps for the backward pass, casts of the weights to half precision included.
    workspace : int
        Gradients of one block's branches, which the backward pass holds beside the activations.
    allocator : int
        What the C library keeps of freed activations and cannot use again; CPU only.
    """

    parameters: int
    gradients: int
    moments: int
    activations: int
    workspace: int
    allocator: int

    @property
    def total(self) -> int:
        """All of it."""
        held = self.parameters + self.gradients + self.moments + self.activations
        return held + self.workspace + self.allocator


class _Load(NamedTuple):
    """One forward pass: B, T, F and C, bytes per number kept in a branch and in a dropout mask, and where."""

    windows: int
    context_length: int
    n_features: int
    n_outputs: int
    branch: int
    mask: int
    device_type: DeviceType

    @property
    def stream_mask(self) -> int:
        """Bytes per number in a dropout mask of fp32 tokens."""
        return _FP32 if self.mask > 1 else self.mask

    @property
    def values(self) -> int:
        """Numbers in the windows."""
        return self.windows * self.context_length * self.n_features


class _Stack(NamedTuple):
    """Bytes kept at the entry of a block and within one, and how many there are alike."""

    n_blocks: int
    entry: int
    block: int


class _Kept(NamedTuple):
    """Bytes kept in the blocks and outside of them, and the workspace."""

    stacks: tuple[_Stack, ...]
    outer: int
    workspace: int

    def activations(self, *, recomputed: bool) -> int:
        """Of all blocks; where they are recomputed, of their entries and of the largest one at work."""
        if not recomputed:
            return sum(stack.n_blocks * stack.block for stack in self.stacks) + self.outer
        entries = sum(stack.n_blocks * stack.entry for stack in self.stacks)
        return entries + max((stack.block for stack in self.stacks), default=0) + self.outer


def predict_memory(
    config: AnyConfig,
    *,
    n_features: int,
    context_length: int,
    n_outputs: int = 1,
    micro_batch_size: int,
    precision: Precision = "fp32",
    device_type: DeviceType = "cuda",
    activation_checkpointing: bool = False,
    n_params: int | None = None,
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
        ``bf16`` and ``fp16`` keep the branches in 2 bytes (autocast) and the residual stream in 4.
    device_type : str
        A dropout mask takes one byte on ``cuda``, elsewhere as many as the numbers it masks.
    activation_checkpointing : bool
        Whether a block keeps its input alone and is computed again by the backward pass (Chen et al. 2016).
    n_params : int or None
        N where it has been counted already.

    Notes
    -----
    The terms are those of Korthikanti et al. 2022 ("Reducing Activation Recomputation in Large Transformer
    Models", section 4), counted for these blocks; attention is fused, so no score matrix is kept, but for
    few keys on a CPU (`finscale.models.layers.few_keys`).
    """
    if n_params is None:
        sizes = {"n_features": n_features, "context_length": context_length, "n_outputs": n_outputs}
        n_params = count_params(config, **sizes).total
    branch = _BRANCH_BYTES[precision]
    mask = (1 if device_type == "cuda" else branch) if getattr(config, "dropout", 0) else 0
    load = _Load(micro_batch_size, context_length, n_features, n_outputs, branch, mask, device_type)
    kept = _KEPT[config.family](config, load)
    casts = branch * n_params if precision != "fp32" else 0
    activations = kept.activations(recomputed=activation_checkpointing) + casts
    churned = kept.activations(recomputed=False) + casts
    return MemoryEstimate(
        parameters=_FP32 * n_params,
        gradients=_FP32 * n_params,
        moments=2 * _FP32 * n_params,
        activations=activations,
        workspace=kept.workspace,
        allocator=round(_RETAINED[device_type] * churned),
    )


def _patchtst(config: PatchTSTConfig, load: _Load) -> _Kept:
    """Values and patches, what the head reads."""
    n_sequences = load.windows * config.n_channels(load.n_features)
    cls = config.pooling == "cls"
    patches = n_tokens(config, context_length=load.context_length) - cls
    tokens = n_sequences * (patches + cls)
    n_columns = load.n_features if config.channels == "mixed" else 1
    cut = n_sequences * patches * config.patch_length * n_columns * load.branch
    read = n_sequences * config.d_model * (patches if config.pooling == "flatten" else 1) * load.branch
    values = _FP32 * load.values * (1 if config.instance_norm == "none" else 2)
    block = _Numbers(attention=6 + _turned(config), feed_forward=2)
    n_keys = patches + cls
    return _stack(config, load, tokens=tokens, block=block, outer=values + cut + read, n_keys=n_keys)


def _transformer(config: TransformerConfig, load: _Load) -> _Kept:
    """Symbols or columns, and what the output layer reads and gives."""
    tokens = load.windows * load.context_length
    keys = config.kv_heads / config.n_heads
    attention = 4 + 2 * keys + (config.conv_taps > 0) + _turned(config, keys)
    block = _Numbers(attention=attention, feed_forward=_INNER[config.activation])
    n_outputs = output_width(config, n_outputs=load.n_outputs)
    read = config.d_model * load.branch + n_outputs * _FP32
    outputs = load.windows * n_read(config, load.context_length) * read
    columns = tokens * config.initial_width * load.branch if config.joint_embedding_dim else 0
    inputs = _INT64 * tokens if config.vocab_size else load.values * load.branch
    outer, n_keys = outputs + columns + inputs, load.context_length
    kept = _stack(config, load, tokens=tokens, block=block, outer=outer, n_keys=n_keys)
    if config.window_size is not None and config.window_size < load.context_length:
        (stack,) = kept.stacks
        block_bytes = stack.block + round(_window_bytes(config, load, config.window_size, keys=keys))
        kept = kept._replace(stacks=(stack._replace(block=block_bytes),))
    return kept if config.attractor is None else _with_attractors(kept, config.attractor, config, load)


def _window_bytes(config: TransformerConfig, load: _Load, window_size: int, *, keys: float) -> float:
    """Bytes per block: masks of all bands, which windows share, and keys and values joined to the sinks."""
    length, n_sinks = load.context_length, config.n_sinks
    parts = bands(n_queries=length, n_keys=length, window_size=window_size)
    seen = [part.stop - part.first_key + min(n_sinks, part.first_key) for part in parts]
    masks = sum((part.stop - part.first) * n for part, n in zip(parts, seen, strict=True))
    joined = sum(n for part, n in zip(parts, seen, strict=True) if n_sinks and part.first_key)
    return (masks + 2 * keys * config.d_model * load.windows * joined) * load.branch


def _with_attractors(
    kept: _Kept, attractor: AttractorConfig, config: TransformerConfig, load: _Load
) -> _Kept:
    """Let the blocks that have an attractor keep what it keeps; the others stay as they are."""
    (plain,), n_injected, half = kept.stacks, len(config.injected_layers), load.branch < _FP32
    numbers = attractor_kept(
        attractor, load.context_length, config.d_model, n_heads=config.n_heads, half=half
    )
    injected = plain._replace(n_blocks=n_injected, block=plain.block + _FP32 * load.windows * numbers)
    return kept._replace(stacks=(plain._replace(n_blocks=plain.n_blocks - n_injected), injected))


def _migt_tvdt(config: MigtTvdtConfig, load: _Load) -> _Kept:
    """Two stacks of fp32 tokens; bars, their calendar, and what pools them over time."""
    n_bars, sequences, d = load.windows * load.context_length, load.windows * load.n_features, config.d_model
    tokens, numbers = n_bars * load.n_features, _Numbers(attention=6, feed_forward=2)
    over_time = _blocks(config, load, tokens=tokens, block=numbers, n_keys=load.context_length)
    over_variables = _blocks(config, load, tokens=sequences, block=numbers, n_keys=load.n_features)
    half = load.branch < _FP32
    pooled = d * (load.stream_mask + _FP32 + (2 + half) * load.branch) + 4 * _FP32
    calendar = n_bars * (_INT64 + config.positions.d_code * load.branch)
    read = sequences * d * (_FP32 + load.branch)
    return _Kept(
        (over_time, over_variables._replace(n_blocks=config.n_variable_layers)),
        outer=tokens * pooled + _FP32 * load.values + calendar + read,
        workspace=tokens * (d + config.d_ff) * load.branch,
    )


def _dlinear(config: DLinearConfig, load: _Load) -> _Kept:
    """Values, their moving average and the rest; no blocks."""
    return _Kept((), outer=3 * _FP32 * load.values, workspace=2 * _FP32 * load.values)


def _naive(config: NaiveConfig, load: _Load) -> _Kept:
    return _Kept((), outer=_FP32 * load.values, workspace=0)


class _Numbers(NamedTuple):
    """Numbers kept per token of a block: in units of d and of d_ff."""

    attention: float
    feed_forward: int


def _turned(config: _Stacked, keys: float = 1.0) -> float:
    """Turned queries and ``keys`` as many keys, and a mix of their layout; longer copies of all under ALiBi.

    Without a causal mask ALiBi is a bias that all windows share; it keeps the leanest kernel away, at about
    three numbers (within 15 %).
    """
    positions, d_head = config.positions, config.d_model // config.n_heads
    if positions.kind == "alibi":
        longer = 1 + alibi_columns(d_head) / d_head
        return (2 + 2 * keys) * (longer - 1) + 1 if getattr(config, "causal", False) else 3.0
    return 2 + keys if _is_rotary(config) else 0.0


def _is_rotary(config: _Stacked) -> bool:
    positions = config.positions
    return positions.kind in _ROTARY or getattr(positions, "form", "") == "rotary"


def _attention_bytes(config: _Stacked, load: _Load, n_keys: int) -> int:
    """Bytes per token and head: of the sum of its exponentials, or of its probabilities for few keys."""
    shared = getattr(config, "kv_heads", config.n_heads) != config.n_heads or getattr(config, "causal", False)
    plain = not (shared or _is_rotary(config) or config.positions.kind == "alibi")
    few = load.device_type == "cpu" and plain and n_keys <= MOST_KEYS
    return n_keys * load.branch if few else _FP32


def _stream(config: _Stacked, load: _Load) -> int:
    """Bytes per number of the residual stream: whole where fp32 weights enter it as they are."""
    looked_up = getattr(config, "vocab_size", None) is not None or isinstance(config, MigtTvdtConfig)
    return _FP32 if looked_up or config.positions.kind == "learned" else load.branch


def _stack(config: _Stacked, load: _Load, *, tokens: int, block: _Numbers, outer: int, n_keys: int) -> _Kept:
    """One stack of blocks, and around it the embedded tokens."""
    d = config.d_model
    return _Kept(
        (_blocks(config, load, tokens=tokens, block=block, n_keys=n_keys),),
        outer=tokens * d * (load.mask + _stream(config, load)) + outer,
        workspace=tokens * (d + config.d_ff) * load.branch,
    )


def _blocks(config: _Stacked, load: _Load, *, tokens: int, block: _Numbers, n_keys: int) -> _Stack:
    """Two residual inputs, both branches, their masks and statistics.

    The root mean square norm is composed of several steps, which keep its input once more.
    """
    d, stream = config.d_model, _stream(config, load)
    rms_norm = getattr(config, "norm", "layer_norm") == "rms_norm"
    residual = 2 * d * (stream + (_FP32 if rms_norm else 0))
    branch = (block.attention * d + block.feed_forward * config.d_ff) * load.branch
    statistics = 4 * _FP32 + config.n_heads * _attention_bytes(config, load, n_keys)
    gate = _gate_bytes(config, load) if isinstance(config, MigtTvdtConfig) else 0
    return _Stack(
        config.n_layers,
        entry=tokens * d * stream,
        block=round(tokens * (residual + branch + 2 * d * load.mask + statistics + gate)),
    )


def _gate_bytes(config: MigtTvdtConfig, load: _Load) -> int:
    """Bytes per token: what the gate's norm and map read, how far it opens and what it lets in, in fp32."""
    cast = load.branch if load.branch < _FP32 else 0
    wide = load.stream_mask - load.mask
    return config.d_model * (_FP32 + 2 * load.branch + cast + wide) + 2 * _FP32


_KEPT: dict[str, Callable[[Any, _Load], _Kept]] = {
    "patchtst": _patchtst,
    "transformer": _transformer,
    "migt_tvdt": _migt_tvdt,
    "dlinear": _dlinear,
    "naive": _naive,
}
