"""Parameters and matrix-product operations of the MIGT-TVDT, in closed form; no torch.

T context_length, V variables, d d_model, C outputs.
"""

from functools import partial

from finscale.models.head_config import head_width
from finscale.models.layers.counts import Counted, block_flops, block_params, norm_params
from finscale.models.migt_tvdt_config import MigtTvdtConfig
from finscale.models.position_counts import position_flops, position_params

__all__ = ["migt_tvdt_flops", "migt_tvdt_params"]


def migt_tvdt_params(
    config: MigtTvdtConfig, *, n_features: int, context_length: int, n_outputs: int = 1
) -> Counted:
    """Return the exact parameter count by group; T does not enter.

    Examples
    --------
    >>> from finscale.models.head_config import QuantileHead
    >>> config = MigtTvdtConfig(head=QuantileHead(horizons=(3, 6, 12, 24, 48)))
    >>> sum(migt_tvdt_params(config, n_features=24, context_length=288))
    6851219
    """
    d, width = config.d_model, head_width(config.head, n_outputs=n_outputs)
    block = block_params(d, config.d_ff, n_heads=config.n_heads, gated=True)
    n_blocks, time_pool = config.n_layers + config.n_variable_layers, d * d + d + d
    read = n_features * d * d + d + d * (d // 2) + d // 2
    return Counted(
        embedding=2 * n_features * d,
        positions=position_params(config.positions, d_model=d, max_length=context_length),
        body=n_blocks * block + time_pool + 2 * norm_params("layer_norm", d),
        head=read + (d // 2) * width + width,
    )


def migt_tvdt_flops(
    config: MigtTvdtConfig, *, n_features: int, context_length: int, n_outputs: int = 1
) -> tuple[int, int]:
    """Return (forward, training) operations of one window; nobody asks for the gradient of its values."""
    d, n_bars = config.d_model, n_features * context_length
    block = partial(block_flops, d=d, d_ff=config.d_ff, n_heads=config.n_heads, gated=True)
    embedding = 2 * n_bars * d
    positions = position_flops(
        config.positions, d_model=d, n_heads=config.n_heads, n_tokens=context_length, causal=False
    )
    over_time = n_features * config.n_layers * block(context_length)
    time_pool = 2 * n_bars * d * (d + 2)
    over_variables = config.n_variable_layers * block(n_features)
    width = head_width(config.head, n_outputs=n_outputs)
    head = 2 * n_features * d * d + 2 * d * (d // 2) + 2 * (d // 2) * width
    forward = embedding + positions + over_time + time_pool + over_variables + head
    return forward, 3 * forward - embedding
