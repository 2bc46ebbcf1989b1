"""What attention remembers of a sequence, and which part of it a run of queries reads.

B batch, G key-value heads, S keys, h d_head.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

__all__ = ["KeyValues", "Seen", "evicted", "joined"]


@dataclass(frozen=True)
class Seen:
    """The keys that a band reads: ``n_sinks`` from the first on, and the run ``first`` .. ``stop`` - 1."""

    n_sinks: int
    first: int
    stop: int

    def of(self, x: Shaped[Tensor, "*shape"], *, dim: int) -> Shaped[Tensor, "*part"]:
        """Return what is seen along ``dim``, a view where nothing lies between."""
        run = x.narrow(dim, self.first, self.stop - self.first)
        return run if not self.n_sinks else torch.cat((x.narrow(dim, 0, self.n_sinks), run), dim=dim)


@dataclass(frozen=True)
class KeyValues:
    """What attention remembers of the tokens before a chunk.

    Parameters
    ----------
    keys, values : Tensor
        (B, G, S, h); keys already turned by their positions.
    steps : Tensor or None
        Absolute index of each token, where the call gave its place.
    real : Tensor or None
        False where a token was padding; None when none was.
    """

    keys: Float[Tensor, "B G S h"]
    values: Float[Tensor, "B G S h"]
    steps: Int[Tensor, " S"] | None = None
    real: Bool[Tensor, "B S"] | None = None


def joined(past: KeyValues | None, now: KeyValues) -> KeyValues:
    """Return what is remembered of a past and of the tokens after it."""
    if past is None:
        # a copy: queries, keys and values are views of one tensor, and a view would keep all of it alive
        return replace(now, keys=now.keys.clone(), values=now.values.clone())
    steps = None if past.steps is None or now.steps is None else torch.cat((past.steps, now.steps))
    real = None
    if past.real is not None or now.real is not None:
        real = torch.cat((_real(past), _real(now)), dim=1)
    keys, values = torch.cat((past.keys, now.keys), dim=2), torch.cat((past.values, now.values), dim=2)
    return KeyValues(keys, values, steps, real)


def _real(tokens: KeyValues) -> Tensor:
    if tokens.real is not None:
        return tokens.real
    n_windows, _, n_tokens, _ = tokens.keys.shape
    return torch.ones(n_windows, n_tokens, dtype=torch.bool, device=tokens.keys.device)


def evicted(past: KeyValues, window_size: int | None, n_sinks: int) -> KeyValues:
    """Return a copy of what a window and its sinks can still see: a view would keep all of it alive."""
    n_tokens = past.keys.shape[2]
    if window_size is None or window_size + n_sinks > n_tokens:
        return past
    kept = Seen(n_sinks, n_tokens - window_size + 1, n_tokens)
    steps = None if past.steps is None else kept.of(past.steps, dim=0).clone()
    real = None if past.real is None else kept.of(past.real, dim=1).clone()
    return KeyValues(kept.of(past.keys, dim=2).clone(), kept.of(past.values, dim=2).clone(), steps, real)
