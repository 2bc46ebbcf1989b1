"""A state of constant size that decays: what a window of attention no longer sees.

``C_t = alpha C_{t-1} + e_t (x) h_t`` and ``o_t = q_t C_t`` for every head.
B batch, T tokens, D d_model, H heads, k width of queries and keys, h d_head, C chunk_length.
"""

import contextlib
import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from finscale.models.attractor_config import AttractorConfig, LearnedAlpha, PositionKeys
from finscale.models.attractor_counts import SCAN_CHUNK
from finscale.models.layers.attention import Place
from finscale.models.layers.positions.contract import steps
from finscale.models.layers.positions.phases import spiral_table

__all__ = ["Attractor", "decayed_scan"]

_EPS = 1e-5


class Attractor(nn.Module):
    """What a token reads from all before it, itself included, through an output that starts at zero.

    Parameters
    ----------
    d_model, n_heads : int
        Width and number of heads, a divisor of the width.
    config : AttractorConfig
        Keys, decay and how the state is asked.
    bias : bool
        Whether the linear maps carry biases.

    Notes
    -----
    What is read is divided by its root mean square per head, as RetNet does (Sun et al. 2023, section 2.3):
    its size grows with how much is remembered. ln alpha and the state are float32 at least: bfloat16 would
    round an alpha of 0.999 to 1.
    """

    def __init__(self, d_model: int, n_heads: int, config: AttractorConfig, *, bias: bool = True) -> None:
        super().__init__()
        self.config, self.n_heads = config, n_heads
        self.widths = config.projected(d_model // n_heads)
        self.projection = nn.Linear(d_model, n_heads * sum(self.widths), bias=bias)
        self.output = nn.Linear(d_model, d_model, bias=bias)
        learned = isinstance(config.alpha, LearnedAlpha)
        self.log_rate = nn.Parameter(torch.zeros(n_heads)) if learned else None
        self.silence()

    def silence(self) -> None:
        """Let nothing be added, and every head decay as configured: what training starts from."""
        with torch.no_grad():
            for parameter in self.output.parameters():
                parameter.zero_()
            if self.log_rate is not None:
                self.log_rate.fill_(math.log(-self.config.alpha.log_alpha))

    def forward(
        self,
        x_BTD: Float[Tensor, "B T D"],
        *,
        place: Place | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return what is added to the tokens of whole sequences."""
        return self.resume(x_BTD, None, place=place, mask=mask)[0]

    def resume(
        self,
        x_BTD: Float[Tensor, "B T D"],
        before: Float[Tensor, "B H k h"] | None,
        *,
        place: Place | None = None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H k h"]]:
        """Go on with sequences: return what is added to their next tokens, and the state after these.

        Parameters
        ----------
        x_BTD : Tensor
            The next T tokens.
        before : Tensor or None
            The state that the last call returned; None at the beginning.
        place : Place or None
            Where the tokens stand; None counts from 0.
        mask : Tensor or None
            False where a token is padding, which is not remembered.
        """
        queries, keys, values = self._heads(x_BTD, place)
        if mask is not None:
            values = values.masked_fill(~mask[:, None, :, None], 0.0)
        exact = _exact(x_BTD)
        with _full_precision(x_BTD.device.type):
            heads = (queries.to(exact), keys.to(exact), values.to(exact))
            read_BHTh, after = decayed_scan(*heads, self.log_alpha(exact), before)
            calm_BHTh = functional.rms_norm(read_BHTh, read_BHTh.shape[-1:], eps=_EPS)
        return self.output(calm_BHTh.transpose(1, 2).flatten(2).to(values.dtype)), after

    def log_alpha(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, " H"]:
        """Return ln alpha of every head."""
        if self.log_rate is not None:
            return -self.log_rate.to(dtype).exp()
        weight = self.projection.weight
        return torch.full((self.n_heads,), self.config.alpha.log_alpha, dtype=dtype, device=weight.device)

    def _heads(self, x_BTD: Tensor, place: Place | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries and keys (B, H, T, k) and values (B, H, T, h)."""
        heads_BHTX = self.projection(x_BTD).unflatten(2, (self.n_heads, -1)).transpose(1, 2)
        queries, keys, values = heads_BHTX.split(self.widths, dim=3)
        if isinstance(self.config.keys, PositionKeys):
            code_T2 = _code(self.config.keys, None if place is None else place.steps, x_BTD)
            keys = code_T2.expand(*values.shape[:3], -1)
        if not self.widths.query:
            queries = keys
        if place is not None and getattr(self.config.keys, "rotated", False):
            queries, keys = place.rotate(queries, keys)
        return queries, keys, values


def decayed_scan(
    queries: Float[Tensor, "B H T k"],
    keys: Float[Tensor, "B H T k"],
    values: Float[Tensor, "B H T h"],
    log_alpha: Float[Tensor, " H"],
    before: Float[Tensor, "B H k h"] | None = None,
    *,
    chunk_length: int = SCAN_CHUNK,
) -> tuple[Float[Tensor, "B H T h"], Float[Tensor, "B H k h"]]:
    """Return what every query reads, and the state after the last key.

    Parameters
    ----------
    queries, keys, values : Tensor
        Of T tokens in a row.
    log_alpha : Tensor
        ln alpha of every head, at most 0.
    before : Tensor or None
        The state C before the first token; None is zero.
    chunk_length : int
        Tokens worked out at once; it moves rounding alone.

    Notes
    -----
    Within a chunk ``O = ((Q K^T) * D) V + diag(alpha^(i+1)) Q S`` with ``D_ij = alpha^(i-j)`` for i >= j;
    from one to the next ``S' = alpha^C S + (diag(alpha^(C-1-i)) K)^T V`` (Sun et al. 2023, section 2.2).
    """
    size, state = min(chunk_length, queries.shape[2]), before
    if state is None:
        state = values.new_zeros(*values.shape[:2], keys.shape[3], values.shape[3])
    ages = torch.arange(size + 1, device=log_alpha.device)
    powers_HC = (log_alpha[:, None] * ages).exp()
    decay_HCC = powers_HC[:, (ages[:-1, None] - ages[:-1]).clamp(min=0)].tril()
    read = []
    for q, k, v in zip(*(x.split(size, dim=2) for x in (queries, keys, values)), strict=True):
        n = q.shape[2]
        near = (q @ k.mT * decay_HCC[:, :n, :n]) @ v
        read.append(near + powers_HC[:, 1 : n + 1, None] * (q @ state))
        left = powers_HC[:, :n, None].flip(1) * k
        state = powers_HC[:, n, None, None] * state + left.mT @ v
    return torch.cat(read, dim=2), state


def _code(keys: PositionKeys, at: Int[Tensor, " T"] | None, like: Tensor) -> Float[Tensor, "T 2"]:
    """Return the cosine and sine of every position, cast only now."""
    tables = spiral_table(steps(at, like), 1, constant=keys.constant, constants="single")
    return torch.cat(tables, dim=1).to(like.device, _exact(like))


def _exact(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _full_precision(device_type: str) -> contextlib.AbstractContextManager[None]:
    if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
