"""Attention, in one place for every model.

B batch, T tokens, D d_model, H heads, G key-value heads (a divisor of H), h d_head,
S keys (past and present).
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from finscale.models.layers.counts import bands
from finscale.models.layers.few_keys import has_few_keys, mix_few_keys
from finscale.models.layers.key_values import KeyValues, Seen, evicted, joined
from finscale.models.layers.positions import Positions, Related, apply_rotary

__all__ = ["Attention", "KeyValues", "Place", "attend"]


@dataclass(frozen=True)
class Place:
    """Where the tokens of one call stand, worked out once for all layers.

    Parameters
    ----------
    positions : Positions
        The encoding of the model.
    steps : Tensor or None
        Absolute index of every key, the queries being the last of them; None counts from 0.
    rotary : (cos, sin) or None
        Tables (T, d_head / 2) that turn new queries and keys, where the encoding has them.
    """

    positions: Positions
    steps: Int[Tensor, " S"] | None = None
    rotary: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, positions: Positions, steps: Int[Tensor, " T"] | None, *, like: Tensor) -> "Place":
        """Return the place of new tokens, with the tables that their encoding needs."""
        return cls(positions, steps, positions.tables(steps, like=like))

    @property
    def is_plain(self) -> bool:
        """Whether attention itself knows nothing of positions."""
        return self.rotary is None and type(self.positions).relate is Positions.relate

    def rotate(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Turn new queries and keys; keys may then be remembered."""
        if self.rotary is None:
            return queries, keys
        return apply_rotary(queries, *self.rotary), apply_rotary(keys, *self.rotary)

    def relate(self, queries: Tensor, keys: Tensor, *, seen: Seen, causal: bool) -> Related:
        """Let queries meet the keys that are seen, the last of which are their own."""
        steps = torch.arange(seen.stop, device="cpu") if self.steps is None else self.steps
        steps = seen.of(steps, dim=0)
        own = steps[keys.shape[2] - queries.shape[2] :]
        return self.positions.relate(queries, keys, own, steps, causal=causal)


class Attention(nn.Module):
    """Scaled dot-product self-attention (Vaswani et al. 2017); its weights are never dropped.

    Parameters
    ----------
    d_model, n_heads : int
        Width and number of heads, a divisor of the width.
    n_kv_heads : int or None
        Heads of keys and values, each shared by ``n_heads / n_kv_heads`` heads of queries: 1 is multi-query
        attention (Shazeer 2019), more is grouped-query attention (Ainslie et al. 2023). None means n_heads.
    bias : bool
        Whether the projections carry biases.
    """

    def __init__(
        self, d_model: int, n_heads: int, *, n_kv_heads: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = n_heads, n_heads if n_kv_heads is None else n_kv_heads
        d_all = d_model // n_heads * (n_heads + 2 * self.n_kv_heads)
        self.query_key_value = nn.Linear(d_model, d_all, bias=bias)
        self.output = nn.Linear(d_model, d_model, bias=bias)

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        *,
        causal: bool = False,
        window_size: int | None = None,
        n_sinks: int = 0,
        place: Place | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Mix the tokens.

        Parameters
        ----------
        x_BTD : Tensor
            Tokens.
        causal : bool
            Whether a token sees only itself and what came before it.
        window_size : int or None
            Tokens that a token sees at most, itself and those just before it; needs ``causal``.
        n_sinks : int
            First tokens of the sequence that it sees as well, wherever the window stands.
        place : Place or None
            Where the tokens stand; None leaves order to ``causal``.
        mask : Tensor or None
            True where a token may be attended to, False where it is padding.
        """
        projected_BTX, n_tokens = self.query_key_value(x_BTD), x_BTD.shape[1]
        plain = not causal and mask is None and self.n_kv_heads == self.n_heads
        if plain and (place is None or place.is_plain) and has_few_keys(x_BTD, n_tokens):
            return self.output(mix_few_keys(projected_BTX, n_heads=self.n_heads))
        queries, keys, values = self.heads(projected_BTX, place)
        mixed_BHTh = attend(
            *(queries, keys, values),
            causal=causal,
            window_size=window_size,
            n_sinks=n_sinks,
            real=mask,
            place=place,
        )
        return self.output(mixed_BHTh.transpose(1, 2).flatten(2))

    def resume(
        self,
        x_BTD: Float[Tensor, "B T D"],
        past: KeyValues | None,
        *,
        window_size: int | None = None,
        n_sinks: int = 0,
        place: Place | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "B T D"], KeyValues]:
        """Go on with a causal sequence: mix the next tokens with the past, and return the longer past.

        With a window the past keeps ``window_size - 1`` tokens and the sinks, all that the next one can see.
        ``place`` names the steps of the new tokens.
        """
        queries, keys, values = self.heads(self.query_key_value(x_BTD), place)
        now = joined(past, KeyValues(keys, values, None if place is None else place.steps, mask))
        here = None if place is None else replace(place, steps=now.steps)
        mixed_BHTh = attend(
            *(queries, now.keys, now.values),
            causal=True,
            window_size=window_size,
            n_sinks=n_sinks,
            real=now.real,
            place=here,
        )
        return self.output(mixed_BHTh.transpose(1, 2).flatten(2)), evicted(now, window_size, n_sinks)

    def heads(self, projected_BTX: Tensor, place: Place | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, H, T, h), keys and values (B, G, T, h) of projected tokens, turned."""
        n_groups = self.n_kv_heads
        heads_BTXh = projected_BTX.unflatten(2, (self.n_heads + 2 * n_groups, -1))
        widths = (self.n_heads, n_groups, n_groups)
        queries, keys, values = heads_BTXh.transpose(1, 2).split(widths, dim=1)
        return (queries, keys, values) if place is None else (*place.rotate(queries, keys), values)


def attend(
    queries: Float[Tensor, "B H T h"],
    keys: Float[Tensor, "B G S h"],
    values: Float[Tensor, "B G S h"],
    *,
    causal: bool,
    window_size: int | None = None,
    n_sinks: int = 0,
    real: Bool[Tensor, "B S"] | None = None,
    place: Place | None = None,
) -> Float[Tensor, "B H T h"]:
    """Return every query's mix of the values; the queries are the last T of the S tokens.

    A window is cut into bands of queries, each with the keys it can see: exact, and flat in memory. The S
    tokens begin with the sinks; those evicted after them have left no gap.

    Parameters
    ----------
    queries, keys, values : Tensor
        Of each head, already turned.
    causal, window_size, n_sinks, place : bool, int or None, int, Place or None
        As in `Attention`; the place has the steps of all keys.
    real : Tensor or None
        False where a key is padding.
    """
    n_queries, n_keys, mixed = queries.shape[2], keys.shape[2], []
    for first, stop, low in bands(n_queries=n_queries, n_keys=n_keys, window_size=window_size):
        seen = Seen(min(n_sinks, low), low, n_keys - n_queries + stop)
        band = Related(queries[:, :, first:stop], seen.of(keys, dim=2))
        view = None if window_size is None else (window_size, n_sinks)
        allowed = _allowed(band, causal, view, None if real is None else seen.of(real, dim=1))
        if place is not None:
            band = place.relate(band.queries, band.keys, seen=seen, causal=causal)
        mixed.append(_mix(band, seen.of(values, dim=2), allowed, causal))
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed, dim=2)


def _mix(band: Related, values: Tensor, allowed: Tensor | None, causal: bool) -> Tensor:
    """Attend in one call; queries and keys may have grown columns, the scale is that of the head."""
    queries, keys, bias = band
    n_columns, square = keys.shape[3] - values.shape[3], queries.shape[2] == keys.shape[2]
    if bias is not None:
        allowed = _masked(bias, _seen(band, causal, None) if allowed is None else allowed)
    mixed_BHTk = functional.scaled_dot_product_attention(
        queries,
        keys,
        functional.pad(values, (0, n_columns)) if n_columns else values,
        attn_mask=allowed,
        is_causal=causal and square and allowed is None,
        scale=1 / math.sqrt(values.shape[3]),
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    return mixed_BHTk[..., : values.shape[3]]


def _allowed(
    band: Related, causal: bool, view: tuple[int, int] | None, real_BS: Tensor | None
) -> Tensor | None:
    """Return True where a query may look at a key, or None where SDPA's own causal rule says it all.

    An explicit mask keeps the fastest kernels away. Padding looks at itself, lest its softmax be empty.
    """
    n_queries, n_keys = band.queries.shape[2], band.keys.shape[2]
    narrow = view is not None and sum(view) < n_keys
    if real_BS is None and not narrow and (not causal or n_queries in (1, n_keys)):
        return None
    seen_TS, past = _seen(band, causal, view), n_keys - n_queries
    if real_BS is None:
        return seen_TS
    return real_BS[:, None, None, :] & seen_TS | torch.ones_like(seen_TS).tril(past).triu(past)


def _seen(band: Related, causal: bool, view: tuple[int, int] | None) -> Bool[Tensor, "T S"]:
    """Return True where a query may look by its place alone; the queries are the last of the keys.

    The view is the size of a window and how many of the first keys are sinks.
    """
    n_queries, n_keys = band.queries.shape[2], band.keys.shape[2]
    seen_TS = torch.ones(n_queries, n_keys, dtype=torch.bool, device=band.keys.device)
    if causal:
        seen_TS = seen_TS.tril(n_keys - n_queries)
    if view is None:
        return seen_TS
    window_size, n_sinks = view
    recent_TS = seen_TS.triu(n_keys - n_queries - window_size + 1)
    recent_TS[:, :n_sinks] = seen_TS[:, :n_sinks]
    return recent_TS


def _masked(bias: Tensor, allowed: Tensor) -> Tensor:
    return torch.where(allowed, bias, -math.inf)
