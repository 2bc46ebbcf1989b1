"""What every positional encoding answers.

B batch, T tokens of this call, S keys (cached ones first), H heads, K key-value heads, d d_head, D d_model,
P = d / 2 pairs. Positions are absolute indices, int64; where they are left out they count from 0.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from finscale.core.errors import Fault
from finscale.models.layers.positions.rotary import Tables, apply_rotary

__all__ = ["Positions", "Related", "exact_device", "key_steps", "steps"]


class Related(NamedTuple):
    """Queries, keys and bias for ``softmax(q k / sqrt(d_head) + bias)``, d_head without added columns."""

    queries: Float[Tensor, "B H T d"]
    keys: Float[Tensor, "B K S d"]
    bias: Tensor | None = None


class Positions(nn.Module):
    """The contract; by itself the kind ``none``.

    Notes
    -----
    Nothing is stored between calls and nothing but learned parameters is in the state dict: tables are
    computed in float64 from int64 positions, and cast to the type of the tokens only after cosine and sine. A
    model calls `add` and `tables` once; its attention calls `apply_rotary` (or `rotate`) before keys are
    cached, and `relate` after. Its softmax must divide by sqrt(d_head) explicitly: `relate` may append
    columns.
    """

    def add(
        self,
        x_BTD: Float[Tensor, "B T D"],
        positions: Int[Tensor, " T"] | None = None,
        calendar: Int[Tensor, "B T fields"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the tokens, with their code where the kind has one.

        Raises
        ------
        Fault
            When a calendar is given to a kind that reads none.
        """
        if calendar is not None:
            remedy = "leave it out, or choose positions=calendar"
            raise Fault("batch.calendar", "be left out under these positions", tuple(calendar.shape), remedy)
        return x_BTD

    def tables(
        self, positions: Int[Tensor, " T"] | None = None, *, like: Float[Tensor, "*leading T width"]
    ) -> Tables | None:
        """Return cosines and sines (T, P) for `apply_rotary`; None where nothing turns.

        Parameters
        ----------
        positions : Tensor or None
            Counted from 0 when None.
        like : Tensor
            Gives T, the type and the device: tokens (B, T, D) or heads (B, H, T, d).
        """
        return None

    def rotate(
        self,
        q_BHTd: Float[Tensor, "B H T d"],
        k_BKTd: Float[Tensor, "B K T d"],
        positions: Int[Tensor, " T"] | None = None,
    ) -> tuple[Float[Tensor, "B H T d"], Float[Tensor, "B K T d"]]:
        """Turn new queries and keys by their positions; what comes back may be cached."""
        rotary = self.tables(positions, like=q_BHTd)
        if rotary is None:
            return q_BHTd, k_BKTd
        return apply_rotary(q_BHTd, *rotary), apply_rotary(k_BKTd, *rotary)

    def relate(
        self,
        q_BHTd: Float[Tensor, "B H T d"],
        k_BKSd: Float[Tensor, "B K S d"],
        positions: Int[Tensor, " T"] | None = None,
        key_positions: Int[Tensor, " S"] | None = None,
        *,
        causal: bool,
    ) -> Related:
        """Let rotated queries meet all rotated keys.

        Parameters
        ----------
        q_BHTd, k_BKSd : Tensor
            As `rotate` returned them; S >= T when earlier keys are cached.
        positions, key_positions : Tensor or None
            Keys count from 0 and queries are the last T of them when None.
        causal : bool
            Whether attention will hide keys that come after their query.

        Returns
        -------
        Related
            The bias broadcasts to (B, H, T, S), is None for most kinds, and hides nothing: masks are
            attention's.
        """
        return Related(q_BHTd, k_BKSd)


def exact_device(like: Tensor) -> torch.device:
    """Return where float64 arithmetic for a tensor is done: beside it, or on the CPU where there is none."""
    return torch.device("cpu") if like.device.type in {"mps", "meta"} else like.device


def steps(positions: Int[Tensor, " T"] | None, like: Float[Tensor, "*leading T width"]) -> Int[Tensor, " T"]:
    """Return int64 positions on the device of exact arithmetic, counted from 0 when None."""
    if positions is None:
        return torch.arange(like.shape[-2], device=exact_device(like))
    return positions.to(exact_device(like), torch.int64)


def key_steps(
    q_BHTd: Float[Tensor, "B H T d"],
    k_BKSd: Float[Tensor, "B K S d"],
    positions: Int[Tensor, " T"] | None,
    key_positions: Int[Tensor, " S"] | None,
) -> tuple[Int[Tensor, " T"], Int[Tensor, " S"]]:
    """Return the positions of queries and keys; without any, the queries are the last of the keys.

    Raises
    ------
    Fault
        When only one of the two is given and there are cached keys: their positions cannot be guessed.
    """
    n_queries, n_keys = q_BHTd.shape[-2], k_BKSd.shape[-2]
    if (positions is None) != (key_positions is None):
        if n_queries != n_keys:
            got = f"{n_queries} queries, {n_keys} keys"
            raise Fault("positions and key_positions", "be given together", got, "pass both or neither")
        given = steps(positions if key_positions is None else key_positions, q_BHTd)
        return given, given
    keys_S = steps(key_positions, k_BKSd)
    return (keys_S[n_keys - n_queries :] if positions is None else steps(positions, q_BHTd)), keys_S
