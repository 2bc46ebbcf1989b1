"""An attractor beside the attention of a pretrained model, its state in the cache of transformers.

B sequences, T tokens of a call, S keys, D d_model.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from finscale.core.errors import Fault, raise_faults
from finscale.core.files import replacing
from finscale.core.seeding import derive
from finscale.longcontext.pretrained_positions import head_width, home
from finscale.models.attractor_config import AttractorConfig
from finscale.models.layers.attention import Place
from finscale.models.layers.attractor import Attractor
from finscale.models.layers.positions import Positions

__all__ = ["build_cache", "cache_bytes", "inject", "read_attractors", "write_attractors"]


def inject(network: Any, config: AttractorConfig | None, positions: Positions, *, seed: int) -> nn.ModuleDict:
    """Let the layers that a config names read an attractor; return them by the index of their layer.

    Their outputs start at zero: the network says what it said before, to the bit. They are no part of the
    network's own weights, which stay those of a checkpoint.

    Raises
    ------
    Fault
        When the config names layers that are not there, or its heads cannot turn as those of attention.
    """
    attractors, checkpoint = nn.ModuleDict(), network.config
    if config is None:
        return attractors
    raise_faults(_faults(config, checkpoint))
    n_heads = checkpoint.num_attention_heads
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "attractor"))
        for index in config.injected(checkpoint.num_hidden_layers):
            layer = network.model.layers[index]
            attractor = Attractor(checkpoint.hidden_size, n_heads, config, bias=False)
            _place(attractor, layer, network.dtype)
            hook = partial(_recall, attractor=attractor, positions=positions)
            layer.self_attn.register_forward_hook(hook, with_kwargs=True)
            attractors[str(index)] = attractor
    return attractors


def build_cache(checkpoint: Any, *, injected: tuple[int, ...], window_size: int | None) -> Any:
    """Return an empty cache: with a window it evicts, and layers with an attractor hold its state."""
    from transformers import cache_utils

    def layer(index: int) -> Any:
        if window_size is None:
            full = cache_utils.LinearAttentionAndFullAttentionLayer
            return full() if index in injected else cache_utils.DynamicLayer()
        sliding = cache_utils.LinearAttentionAndSlidingWindowAttentionLayer
        kind = sliding if index in injected else cache_utils.DynamicSlidingWindowLayer
        return kind(sliding_window=window_size)

    return cache_utils.Cache(layers=[layer(index) for index in range(checkpoint.num_hidden_layers)])


def cache_bytes(cache: Any) -> int:
    """Return the bytes of memory that a cache keeps alive, attractors included."""
    held = [tensor for layer in cache.layers for tensor in _held(layer)]
    return sum(tensor.untyped_storage().nbytes() for tensor in held if tensor is not None)


def write_attractors(path: Path, attractors: nn.ModuleDict, config: AttractorConfig | None) -> None:
    """Write the weights of all attractors, and the config they are of, into one safetensors file.

    Raises
    ------
    Fault
        When there are none.
    """
    if config is None or not len(attractors):
        raise Fault("model.attractor", "be injected before it is saved", "none", "set model.attractor")
    weights = {name: tensor.contiguous() for name, tensor in attractors.state_dict().items()}
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata={"attractor": config.model_dump_json()})


def read_attractors(path: Path, attractors: nn.ModuleDict, config: AttractorConfig | None) -> None:
    """Give attractors the weights that `write_attractors` wrote.

    Raises
    ------
    Fault
        When the file cannot be read, or is of another config.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get("attractor")
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise Fault(str(path), "be readable weights of attractors", str(error), "save them again") from error
    if config is None or told is None or AttractorConfig.model_validate_json(told) != config:
        raise Fault(str(path), "hold attractors of this model.attractor", told, "load it under that config")
    try:
        attractors.load_state_dict(weights)
    except RuntimeError as error:
        remedy = "load it into the checkpoint it was tuned with"
        raise Fault(str(path), "fit the layers of this checkpoint", str(error), remedy) from error


def _faults(config: AttractorConfig, checkpoint: Any) -> Iterator[Fault]:
    n_layers, d_model = checkpoint.num_hidden_layers, checkpoint.hidden_size
    beyond = [layer for layer in config.layers if layer >= n_layers]
    if beyond:
        yield Fault("attractor.layers", f"lie below the checkpoint's {n_layers}", beyond, "remove them")
    own, d_head = d_model / checkpoint.num_attention_heads, head_width(checkpoint)
    if own % 1 or (getattr(config.keys, "rotated", False) and own != d_head):
        got = f"d_model={d_model}, n_heads={checkpoint.num_attention_heads}, d_head={d_head}"
        yield Fault("attractor", "have heads that share the width of a token out", got, "leave it out")


def _place(attractor: Attractor, layer: Any, dtype: torch.dtype) -> None:
    """Move an attractor to its layer; its maps take the type of the network, its decay stays in float32."""
    attractor.to(home(layer.self_attn.q_proj))
    for linear in (attractor.projection, attractor.output):
        linear.to(dtype)


def _recall(
    module: Any,
    args: tuple[Any, ...],
    given: dict[str, Any],
    said: tuple[Any, ...],
    *,
    attractor: Attractor,
    positions: Positions,
) -> tuple[Any, ...]:
    """Add to what attention said what the attractor recalls; remember the tokens in the cache."""
    x_BTD, cache = given["hidden_states"], given.get("past_key_values")
    n_tokens, layer = x_BTD.shape[1], _layer(cache, module.layer_idx)
    # attention has counted these tokens already
    first = 0 if layer is None else layer.get_seq_length() - n_tokens
    place = Place.of(positions, torch.arange(first, first + n_tokens, device="cpu"), like=x_BTD)
    real_BT = _real(given.get("attention_mask"), n_tokens)
    added_BTD, state = attractor.resume(x_BTD, _state(layer), place=place, mask=real_BT)
    if layer is not None:
        layer.update_recurrent_state(state.detach())
    return (said[0] + added_BTD, *said[1:])


def _layer(cache: Any, index: int) -> Any:
    """Return the part of a cache that holds the state of a layer."""
    if cache is None:
        return None
    layer = cache.layers[index] if index < len(cache.layers) else None
    if not hasattr(layer, "recurrent_states"):
        remedy = "pass past_key_values=model.new_cache(), or use_cache=False"
        raise Fault("past_key_values", "hold the state of the attractor", type(cache).__name__, remedy)
    return layer


def _state(layer: Any) -> Tensor | None:
    """Return what was remembered. `Cache.get_recurrent_state` answers only for layers that convolve too."""
    if layer is None or not layer.is_recurrent_states_initialized[0]:
        return None
    state: Tensor = layer.recurrent_states[0]
    return state


def _held(layer: Any) -> tuple[Tensor | None, ...]:
    return (layer.keys, layer.values, _state(layer) if hasattr(layer, "recurrent_states") else None)


def _real(mask: Float[Tensor, "..."] | Bool[Tensor, "..."] | None, n_tokens: int) -> Tensor | None:
    """Return which of the T new tokens are no padding: a real one sees itself.

    The mask is that of keys (B, S), or one of queries and keys (B, 1, T, S), added to scores or of booleans.
    """
    if mask is None:
        return None
    if mask.ndim == 2:
        return mask[:, -n_tokens:].bool()
    own_BT = mask[:, 0, :, -n_tokens:].diagonal(dim1=1, dim2=2)
    return own_BT if own_BT.dtype == torch.bool else own_BT == 0
