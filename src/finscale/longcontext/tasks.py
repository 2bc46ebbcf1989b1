"""Generate symbol sequences that ask a decoder to recall what it read before.

A sequence is a row of two-symbol slots. A *write* puts [key, value] into a slot of the haystack, whose other
slots hold noise; a *query* writes a key again at the end, and the next symbol must be its value.

n samples, L symbols, S = L / 2 slots, H haystack slots, A active keys of a sample, W writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from finscale.core.errors import Fault
from finscale.longcontext.decoder_config import MixConfig, SymbolConfig
from finscale.longcontext.task_names import Task

__all__ = [
    "Samples",
    "dense_samples",
    "needle_slot",
    "place_samples",
    "recall_samples",
    "retrieval_samples",
    "training_samples",
]

Ints = NDArray[np.int64]
_MAX_DRAWS = 200


@dataclass(frozen=True)
class Samples:
    """Sequences, and the places where a prediction counts.

    Parameters
    ----------
    tokens : array (n, L)
        Keys are 0 .. n_keys - 1, then come the values, then the noise.
    scored : array (n, L)
        True where the *next* symbol is to be recalled; never in the last column.
    """

    tokens: Int[np.ndarray, "n L"]
    scored: Bool[np.ndarray, "n L"]

    @property
    def answers(self) -> Ints:
        """The symbols to be recalled, row by row."""
        answers: Ints = self.tokens[:, 1:][self.scored[:, :-1]]
        return answers


def training_samples(
    rng: np.random.Generator, n: int, length: int, *, symbols: SymbolConfig, mix: MixConfig
) -> Samples:
    """Return n sequences in the proportions of ``mix``: first dense, then far, then overwrite."""
    n_dense, n_far = round(n * mix.dense), round(n * mix.far)
    once, counts = (1,) * symbols.n_active, symbols.overwrite_counts
    parts = [
        dense_samples(rng, n_dense, length, symbols=symbols),
        recall_samples(rng, n_far, length, symbols=symbols, n_writes=once),
        recall_samples(rng, n - n_dense - n_far, length, symbols=symbols, n_writes=counts),
    ]
    tokens, scored = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("tokens", "scored")
    )
    return Samples(tokens, scored)


def dense_samples(rng: np.random.Generator, n: int, length: int, *, symbols: SymbolConfig) -> Samples:
    """Return sequences of writes only: every slot names an active key, and each repeat is scored."""
    n_active, n_slots = symbols.n_active, length // 2
    keys, values = _keys(rng, n, symbols), _values(rng, n, n_active, symbols)
    which_nS = rng.integers(n_active, size=(n, n_slots))
    slots = np.stack([_take(keys, which_nS), _take(values, which_nS)], axis=-1)
    seen_nSA = np.cumsum(which_nS[..., None] == np.arange(n_active), axis=1)
    is_repeat = np.take_along_axis(seen_nSA, which_nS[..., None], axis=2)[..., 0] > 1
    return _samples(slots, is_repeat)


def recall_samples(
    rng: np.random.Generator, n: int, length: int, *, symbols: SymbolConfig, n_writes: Sequence[int]
) -> Samples:
    """Return sequences that write key a ``n_writes[a]`` times in noise and query every key at the end.

    The value of a key is the one it was written with last.
    """
    n_active, n_haystack = len(n_writes), length // 2 - len(n_writes)
    which_W = np.repeat(np.arange(n_active), n_writes)
    slot_nW = _distinct(rng, n, n_haystack, len(which_W))
    keys, values = _keys(rng, n, symbols), _values(rng, n, len(which_W), symbols)
    slots = _noise(rng, n, length // 2, symbols)
    _write(slots, slot_nW, keys[:, which_W], values)
    last_nA = np.stack(
        [np.where(which_W == key, slot_nW, -1).argmax(axis=1) for key in range(n_active)], axis=1
    )
    order = _distinct(rng, n, n_active, n_active)
    slots[:, n_haystack:, 0] = _take(keys, order)
    slots[:, n_haystack:, 1] = _take(_take(values, last_nA), order)
    return _samples(slots, np.broadcast_to(np.arange(length // 2) >= n_haystack, (n, length // 2)))


def retrieval_samples(
    rng: np.random.Generator, n: int, length: int, *, task: Task, depth: float, symbols: SymbolConfig
) -> Samples:
    """Return sequences with one query, for a key whose last write stands at ``depth``.

    Parameters
    ----------
    task : {"needle", "latest"}
        ``needle``: the key is written once, among the other active keys, so that taking any value scores 1/A.
        ``latest``: it is written ``n_overwrites`` times with as many values, the last time at ``depth``, so
        that finding the key without the order of its writes scores 1 / n_overwrites.
    depth : float
        0 is the first slot of the haystack, 1 its last.
    """
    n_own, n_haystack = (1 if task == "needle" else symbols.n_overwrites), length // 2 - 1
    which_W = np.r_[np.zeros(n_own, dtype=np.int64), np.arange(1, symbols.n_active)]
    needle, n_others = needle_slot(length, depth), symbols.n_active - 1
    slot_nW = _retrieval_slots(rng, n, n_haystack, needle=needle, n_own=n_own, n_others=n_others)
    keys, values = _keys(rng, n, symbols), _values(rng, n, len(which_W), symbols)
    slots = _noise(rng, n, length // 2, symbols)
    _write(slots, slot_nW, keys[:, which_W], values)
    slots[:, -1] = np.stack([keys[:, 0], values[:, 0]], axis=-1)
    return _samples(slots, np.broadcast_to(np.arange(length // 2) == n_haystack, (n, length // 2)))


def place_samples(
    rng: np.random.Generator, n: int, length: int, *, task: Task, depth: float | None, symbols: SymbolConfig
) -> Samples:
    """Return n sequences of a task, no two of them alike.

    Parameters
    ----------
    task : str
        ``needle`` or ``latest`` at a depth (`retrieval_samples`), or without one ``dense``, ``far`` or
        ``overwrite``, as in training.

    Raises
    ------
    Fault
        When the symbols hardly allow so many.
    """
    kept = _draw(rng, n, length, task=task, depth=depth, symbols=symbols)
    for _ in range(_MAX_DRAWS):
        again = _repeats(kept.tokens)
        if not again.any():
            return kept
        fresh = _draw(rng, int(again.sum()), length, task=task, depth=depth, symbols=symbols)
        kept.tokens[again], kept.scored[again] = fresh.tokens, fresh.scored
    rule = "leave room for sequences that differ"
    raise Fault("evaluation.n_samples", rule, n, "ask fewer, or longer ones")


def _draw(
    rng: np.random.Generator, n: int, length: int, *, task: Task, depth: float | None, symbols: SymbolConfig
) -> Samples:
    if depth is not None:
        return retrieval_samples(rng, n, length, task=task, depth=depth, symbols=symbols)
    if task == "dense":
        return dense_samples(rng, n, length, symbols=symbols)
    counts = symbols.overwrite_counts if task == "overwrite" else (1,) * symbols.n_active
    return recall_samples(rng, n, length, symbols=symbols, n_writes=counts)


def _repeats(tokens_nL: Ints) -> NDArray[np.bool_]:
    """Return True for every row that stood before."""
    repeats = np.ones(len(tokens_nL), dtype=bool)
    repeats[np.unique(tokens_nL, axis=0, return_index=True)[1]] = False
    return repeats


def needle_slot(length: int, depth: float) -> int:
    """Return the slot at relative ``depth`` of the L/2 - 1 slots before the query.

    Examples
    --------
    >>> needle_slot(256, 0.0), needle_slot(256, 0.5), needle_slot(256, 1.0)
    (0, 63, 126)
    """
    return round(depth * (length // 2 - 2))


def _retrieval_slots(
    rng: np.random.Generator, n: int, n_haystack: int, *, needle: int, n_own: int, n_others: int
) -> Ints:
    """Return (n, n_own + n_others): the needle, its earlier writes before it, other keys anywhere else."""
    needles = np.full((n, 1), needle)
    earlier = _distinct(rng, n, needle, n_own - 1)
    order = rng.random((n, n_haystack))
    np.put_along_axis(order, np.hstack([needles, earlier]), np.inf, axis=1)
    return np.hstack([needles, earlier, np.argsort(order, axis=1)[:, :n_others]])


def _write(slots_nS2: Ints, slot_nW: Ints, keys_nW: Ints, values_nW: Ints) -> None:
    slots_nS2[np.arange(len(slot_nW))[:, None], slot_nW] = np.stack([keys_nW, values_nW], axis=-1)


def _noise(rng: np.random.Generator, n: int, n_slots: int, symbols: SymbolConfig) -> Ints:
    first = symbols.n_keys + symbols.n_values
    return rng.integers(first, symbols.vocab_size, size=(n, n_slots, 2))


def _samples(slots_nS2: Ints, scored_nS: NDArray[np.bool_]) -> Samples:
    scored = np.zeros(slots_nS2.shape, dtype=bool)
    scored[..., 0] = scored_nS
    n, n_slots, _ = slots_nS2.shape
    return Samples(slots_nS2.reshape(n, 2 * n_slots), scored.reshape(n, 2 * n_slots))


def _keys(rng: np.random.Generator, n: int, symbols: SymbolConfig) -> Ints:
    return _distinct(rng, n, symbols.n_keys, symbols.n_active)


def _values(rng: np.random.Generator, n: int, n_written: int, symbols: SymbolConfig) -> Ints:
    return symbols.n_keys + _distinct(rng, n, symbols.n_values, n_written)


def _distinct(rng: np.random.Generator, n: int, population: int, n_drawn: int) -> Ints:
    """Return n rows of different members of 0 .. population - 1, in random order."""
    return np.argsort(rng.random((n, population)), axis=1)[:, :n_drawn]


def _take(table_nX: Ints, index_nY: Ints) -> Ints:
    return np.take_along_axis(table_nX, index_nY, axis=1)
