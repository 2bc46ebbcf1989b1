"""What an attractor costs, from its config alone; no torch.

T tokens, d d_model, H heads, k width of a key.
"""

from finscale.models.attractor_config import AttractorConfig

__all__ = ["SCAN_CHUNK", "attractor_flops", "attractor_kept", "attractor_params"]

SCAN_CHUNK = 64
"""Tokens that `finscale.models.layers.attractor` works out at once."""


def attractor_params(config: AttractorConfig, d: int, *, n_heads: int, bias: bool = True) -> int:
    """Return the parameters of one `Attractor`.

    Examples
    --------
    >>> attractor_params(AttractorConfig(), 64, n_heads=4)
    16644
    """
    d_mapped = n_heads * sum(config.projected(d // n_heads))
    rates = n_heads if config.alpha.kind == "learned" else 0
    return d * (d_mapped + d) + (d_mapped + d) * bias + rates


def attractor_flops(config: AttractorConfig, n_tokens: int, d: int, *, n_heads: int) -> tuple[int, int]:
    """Return (forward, training) operations of one `Attractor` over one window: linear in its tokens.

    Two maps; scores and values within chunks of `SCAN_CHUNK`, masked ones included; and twice per token the
    state, which is read and written.
    """
    d_head, k = d // n_heads, config.key_width(d // n_heads)
    maps = n_tokens * d * (n_heads * sum(config.projected(d_head)) + d)
    scan = n_heads * (_n_near(n_tokens) * (k + d_head) + 2 * n_tokens * k * d_head)
    unasked = n_heads * _unasked(config, n_tokens, d_head)
    return 2 * (maps + scan), 2 * (3 * (maps + scan) - unasked)


def attractor_kept(
    config: AttractorConfig, n_tokens: int, d: int, *, n_heads: int, half: bool = False
) -> int:
    """Return how many fp32 numbers of one window an `Attractor` keeps for its backward pass.

    Copies of queries, keys and values by chunk, what is read before and after its norm, and the weights
    within a chunk; where alpha is learned also what it multiplies. Keys that are positions, and states of
    their width, are left out: they are narrow.

    Parameters
    ----------
    half : bool
        Whether the maps work in half precision, whose output is then kept as a copy of what is needed.
    """
    d_head, learned = d // n_heads, config.alpha.kind == "learned"
    asks, n_chunks = config.injection == "cross_attn", -(-n_tokens // SCAN_CHUNK)
    if config.keys.kind == "content":
        mapped = 1 if half else sum(config.projected(d_head)) / d_head
        wide, states = 8 + learned * (1 + mapped), n_chunks * d * d_head
    else:
        wide, states = 2 + (asks or learned) + 2 * learned, 0
    return round(n_tokens * d * wide) + states + (1 + learned) * n_heads * _n_near(n_tokens)


def _n_near(n_tokens: int) -> int:
    """How many scores an attractor computes within its chunks."""
    return n_tokens // SCAN_CHUNK * SCAN_CHUNK**2 + (n_tokens % SCAN_CHUNK) ** 2


def _unasked(config: AttractorConfig, n_tokens: int, d_head: int) -> int:
    """Products per head of gradients that nobody asks for.

    Those of the state before the first chunk and of the one after the last; and whatever ends at a key that
    is a position, which has none.
    """
    k, n_near = config.key_width(d_head), _n_near(n_tokens)
    n_first, n_last = min(SCAN_CHUNK, n_tokens), n_tokens % SCAN_CHUNK or SCAN_CHUNK
    ends = k * d_head * (n_first + 2 * n_last)
    if config.keys.kind == "content":
        return ends
    asks, learns = config.injection == "cross_attn", config.alpha.kind == "learned"
    scores = n_near * (k if asks else 2 * k) + (0 if asks or learns else n_near * d_head)
    return ends + scores + k * d_head * ((not asks) * n_tokens + (not learns) * (n_tokens - n_last))
