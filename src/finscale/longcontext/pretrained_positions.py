"""Put positions and a window into a pretrained model, at its rotary module and its attention.

B sequences, T tokens of a call, S keys, H heads, d d_head, P = d / 2 pairs.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finscale.core.errors import Fault
from finscale.longcontext.pretrained_config import PretrainedModelConfig
from finscale.models.layers.attention import Place, attend
from finscale.models.layers.positions import Positions, build_positions
from finscale.models.layers.positions.alibi import AlibiPositions
from finscale.models.layers.positions.contract import exact_device
from finscale.models.layers.positions.rotary import Tables
from finscale.models.layers.positions.turning import RotaryPositions, TableOf, mixed_table, rotary_spiral
from finscale.models.position_config import HybridConfig

__all__ = ["SwappedRotary", "attends_ourselves", "head_width", "home", "put_attention", "put_positions"]


class SwappedRotary(nn.Module):
    """Stand where a model of transformers has its rotary module, with any table of positions.

    Parameters
    ----------
    table : callable
        Cosines and sines (T, P) of int64 positions.
    """

    def __init__(self, table: TableOf) -> None:
        super().__init__()
        self.table = table

    def forward(
        self, x: Float[Tensor, "B T D"], position_ids: Int[Tensor, "b T"]
    ) -> tuple[Float[Tensor, "b T d"], Float[Tensor, "b T d"]]:
        """Return cosines and sines, each pair twice as the rotate-half layout reads them."""
        tables = self.table(position_ids.flatten().to(exact_device(x), torch.int64))
        cos, sin = (torch.cat((part, part), dim=1).unflatten(0, position_ids.shape).to(x) for part in tables)
        return cos, sin


def attends_ourselves(config: PretrainedModelConfig, *, window_size: int | None) -> bool:
    """Whether a window or alibi needs our attention in place of the network's own."""
    return window_size is not None or config.positions.kind == "alibi"


def put_positions(network: Any, config: PretrainedModelConfig) -> Positions:
    """Replace the rotary module of a network; return the positions as our own layers read them.

    ``rope``, and a hybrid up to its K, are the checkpoint's own module, to the bit.
    """
    rotary = network.model.rotary_emb
    positions = _positions(network.config, config, _own_table(rotary))
    still: TableOf = partial(_still_table, d_head=head_width(network.config))
    table = positions.table if isinstance(positions, RotaryPositions) else still
    network.model.rotary_emb = SwappedRotary(table)
    return positions


def put_attention(network: Any, positions: Positions, *, window_size: int | None) -> None:
    """Give a network our attention, under a name of its own, with the mask of padding that it reads.

    Raises
    ------
    Fault
        When the checkpoint drops attention weights in training, which ours does not.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    n_heads, dropped = network.config.num_attention_heads, network.config.attention_dropout
    if dropped:
        rule = "be 0 in the config.json of a model with a window or alibi"
        raise Fault("attention_dropout", rule, dropped, "set it to 0")
    alibi = isinstance(positions, AlibiPositions)
    name = f"finscale_window_{window_size}_" + (f"alibi_{n_heads}" if alibi else "plain")
    place = Place(positions) if alibi else None
    AttentionInterface.register(name, partial(_attention, window_size=window_size, place=place))
    AttentionMaskInterface.register(name, _real_keys)
    network.set_attn_implementation(name)


def head_width(config: Any) -> int:
    """Return d, which newer checkpoints name and older ones leave to the width of a token."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def home(module: Any) -> torch.device:
    """Return where a module computes; weights that accelerate has offloaded lie elsewhere."""
    device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    return next(module.parameters()).device if device is None else torch.device(device)


def _positions(checkpoint: Any, config: PretrainedModelConfig, own: TableOf) -> Positions:
    positions, d_head = config.with_base(checkpoint.rope_parameters["rope_theta"]), head_width(checkpoint)
    if positions.kind == "rope":
        return RotaryPositions(own)
    if isinstance(positions, HybridConfig):
        return RotaryPositions(mixed_table(own, rotary_spiral(positions, d_head), positions))
    n_heads = checkpoint.num_attention_heads
    return build_positions(positions, d_model=d_head * n_heads, d_head=d_head, n_heads=n_heads, max_length=0)


def _own_table(rotary: nn.Module) -> TableOf:
    """Return the table of a checkpoint's module, which works in float32 whatever the weights are."""

    def table(positions: Tensor) -> Tables:
        like = torch.empty((), dtype=torch.float32, device=positions.device)
        cos, sin = rotary(like, positions[None])
        n_pairs = cos.shape[2] // 2
        return cos[0, :, :n_pairs].double(), sin[0, :, :n_pairs].double()

    return table


def _still_table(positions: Tensor, *, d_head: int) -> Tables:
    cos = torch.ones(len(positions), d_head // 2, dtype=torch.float64, device=positions.device)
    return cos, torch.zeros_like(cos)


def _attention(
    module: nn.Module,
    query: Float[Tensor, "B H T d"],
    key: Float[Tensor, "B G S d"],
    value: Float[Tensor, "B G S d"],
    attention_mask: Bool[Tensor, "B S"] | None,
    *,
    window_size: int | None,
    place: Place | None,
    **unread: Any,
) -> tuple[Float[Tensor, "B T H d"], None]:
    """Attend in bands, as `finscale.models.layers.attention` does; transformers hands over more than that."""
    mixed_BHTd = attend(
        query, key, value, causal=True, window_size=window_size, real=attention_mask, place=place
    )
    return mixed_BHTd.transpose(1, 2).contiguous(), None


def _real_keys(
    *,
    kv_length: int,
    kv_offset: int = 0,
    attention_mask: Bool[Tensor, "B S"] | None = None,
    **unread: Any,
) -> Bool[Tensor, "B S"] | None:
    """Return which keys in the cache are no padding; None where all are. Order is `_attention`'s."""
    if attention_mask is None:
        return None
    real_BS = attention_mask[:, kv_offset : kv_offset + kv_length].bool()
    return None if bool(real_BS.all()) else real_BS
