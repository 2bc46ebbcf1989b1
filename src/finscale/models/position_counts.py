"""What positions cost and need, from a config alone; no torch.

T tokens, d d_model, h d_head, H heads, S slots of a learned table.
"""

from collections.abc import Callable
from typing import Any

from finscale.core.errors import Fault
from finscale.models.position_config import AnyPositionConfig, CalendarConfig, PiSpiralConfig

__all__ = [
    "ALIBI_DIGITS",
    "alibi_columns",
    "position_faults",
    "position_flops",
    "position_params",
    "turns_pairs",
]

ALIBI_DIGITS = 3
"""Columns that write a distance in base 256: exact to 2^24 in every float type."""


def position_params(config: AnyPositionConfig, *, d_model: int, max_length: int) -> int:
    """Return the exact number of parameters of an encoding.

    Parameters
    ----------
    config : position config
        Of any kind.
    d_model : int
        Width of a token.
    max_length : int
        Slots of a learned table; no other kind has any.

    Examples
    --------
    >>> position_params(CalendarConfig(session_bars=78), d_model=256, max_length=288)
    24944
    """
    count = _PARAMS.get(config.kind)
    return count(config, d_model, max_length) if count else 0


def position_flops(
    config: AnyPositionConfig, *, d_model: int, n_heads: int, n_tokens: int, causal: bool = True
) -> int:
    """Return the matrix-product operations of one use of an encoding in one window.

    ``calendar`` and ``time2vec`` are used once a forward pass (their linear map); the columns of ``alibi``
    under causal attention, and the two score matrices of the ``distance`` gate, once a layer. Other kinds
    cost none.
    """
    if isinstance(config, CalendarConfig):
        return 2 * n_tokens * config.d_code * d_model
    if config.kind == "alibi" and causal:
        return 2 * n_tokens**2 * n_heads * alibi_columns(d_model // n_heads)
    if config.kind == "hybrid" and config.gate == "distance":
        return 4 * n_tokens**2 * d_model
    return 0


def alibi_columns(d_head: int) -> int:
    """Return how many columns queries and keys gain: three digits, padded to a multiple of eight.

    Examples
    --------
    >>> alibi_columns(64), alibi_columns(20)
    (8, 4)
    """
    return -(-(d_head + ALIBI_DIGITS) // 8) * 8 - d_head


def position_faults(config: AnyPositionConfig, *, d_model: int, n_heads: int) -> list[Fault]:
    """Return what a width forbids: turns and sines come in pairs, NTK needs two of them."""
    kind, d_head, got = config.kind, d_model // n_heads, f"d_model={d_model}, n_heads={n_heads}"
    if turns_pairs(config) and d_head % 2:
        remedy = "change n_heads or choose positions=none"
        return [Fault("d_head", f"be even under positions={kind}", got, remedy)]
    if kind in {"rope_ntk", "rope_dynamic"} and d_head < 4:
        return [Fault("d_head", f"be at least 4 under positions={kind}", got, "use fewer heads")]
    if kind in {"sinusoidal", "pi_spiral"} and d_model % 2:
        return [Fault("d_model", f"be even under positions={kind}", d_model, f"try d_model={d_model + 1}")]
    return []


def turns_pairs(config: AnyPositionConfig) -> bool:
    """Whether an encoding turns queries and keys, pair by pair."""
    if isinstance(config, PiSpiralConfig):
        return config.form == "rotary"
    return config.kind in {"rope", "rope_linear", "rope_ntk", "rope_dynamic", "yarn", "hybrid"}


def _calendar(config: CalendarConfig, d: int, _: int) -> int:
    return 7 * config.d_weekday + config.d_code * d + d


def _time2vec(config: CalendarConfig, d: int, _: int) -> int:
    n_waves = config.d_code - config.d_weekday
    return _calendar(config, d, 0) + 2 * n_waves


_PARAMS: dict[str, Callable[[Any, int, int], int]] = {
    "learned": lambda _, d, n_slots: n_slots * d,
    "calendar": _calendar,
    "time2vec": _time2vec,
}
