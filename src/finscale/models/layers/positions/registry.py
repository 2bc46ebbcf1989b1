"""Build any positional encoding from its config; the one dictionary of kinds."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from finscale.core.errors import Fault, raise_faults
from finscale.models.layers.positions.additive import LearnedPositions, WavePositions
from finscale.models.layers.positions.alibi import AlibiPositions
from finscale.models.layers.positions.calendar import CalendarPositions, Time2VecPositions
from finscale.models.layers.positions.contract import Positions
from finscale.models.layers.positions.phases import spiral_table
from finscale.models.layers.positions.rotary import (
    Tables,
    dynamic_table,
    linear_table,
    ntk_table,
    rope_frequencies,
    turn,
    yarn_table,
)
from finscale.models.layers.positions.turning import (
    DistanceHybrid,
    RotaryPositions,
    mixed_table,
    rotary_spiral,
)
from finscale.models.position_config import AnyPositionConfig, HybridConfig, PiSpiralConfig
from finscale.models.position_counts import position_faults

__all__ = ["POSITION_BUILDERS", "build_positions"]


class _Sizes(NamedTuple):
    """What a model brings to its positions."""

    d_model: int
    d_head: int
    n_heads: int
    max_length: int


def build_positions(
    config: AnyPositionConfig, *, d_model: int, d_head: int, n_heads: int, max_length: int
) -> Positions:
    """Return the encoding of a config.

    Parameters
    ----------
    config : position config
        Of any kind.
    d_model, d_head, n_heads : int
        Widths of a token and of a head, and the query heads.
    max_length : int
        Slots of the ``learned`` table; no other kind has an end.

    Raises
    ------
    Fault
        When the widths cannot carry the kind (an odd head cannot turn in pairs).
    """
    raise_faults(position_faults(config, d_model=d_model, n_heads=n_heads))
    if d_head * n_heads != d_model:
        got = f"d_head={d_head}, n_heads={n_heads}, d_model={d_model}"
        raise Fault("d_head", "be d_model / n_heads", got)
    return POSITION_BUILDERS[config.kind](config, _Sizes(d_model, d_head, n_heads, max_length))


def _rotary(function: Callable[..., Tables]) -> Callable[[Any, _Sizes], Positions]:
    """Return the builder of a kind whose options are the keywords of its table."""

    def build(config: Any, sizes: _Sizes) -> Positions:
        options = config.model_dump(exclude={"kind"})
        return RotaryPositions(partial(function, d_head=sizes.d_head, **options))

    return build


def _rope(positions: Tensor, d_head: int, *, base: float) -> Tables:
    return turn(positions, rope_frequencies(d_head, base=base))


def _pi_spiral(config: PiSpiralConfig, sizes: _Sizes) -> Positions:
    if config.form == "rotary":
        return RotaryPositions(rotary_spiral(config, sizes.d_head))
    n_pairs, constant, constants = sizes.d_model // 2, config.constant, config.constants
    return WavePositions(partial(spiral_table, n_pairs=n_pairs, constant=constant, constants=constants))


def _hybrid(config: HybridConfig, sizes: _Sizes) -> Positions:
    near = partial(_rope, d_head=sizes.d_head, base=config.base)
    far = rotary_spiral(config, sizes.d_head)
    if config.gate == "distance":
        return DistanceHybrid(near, far, K=config.K, width=config.width)
    return RotaryPositions(mixed_table(near, far, config))


POSITION_BUILDERS: dict[str, Callable[[Any, _Sizes], Positions]] = {
    "none": lambda _, sizes: Positions(),
    "learned": lambda _, sizes: LearnedPositions(sizes.max_length, sizes.d_model),
    "sinusoidal": lambda config, sizes: WavePositions(partial(_rope, d_head=sizes.d_model, base=config.base)),
    "rope": _rotary(_rope),
    "rope_linear": _rotary(linear_table),
    "rope_ntk": _rotary(ntk_table),
    "rope_dynamic": _rotary(dynamic_table),
    "yarn": _rotary(yarn_table),
    "alibi": lambda _, sizes: AlibiPositions(sizes.n_heads),
    "pi_spiral": _pi_spiral,
    "hybrid": _hybrid,
    "calendar": lambda config, sizes: CalendarPositions(config, sizes.d_model),
    "time2vec": lambda config, sizes: Time2VecPositions(config, sizes.d_model),
}
