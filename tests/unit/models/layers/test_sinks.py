"""A window with sinks against one explicit mask."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from finscale.models.layers.attention import Attention, Place, attend
from finscale.models.layers.counts import block_flops
from finscale.models.layers.positions import Positions, build_positions
from finscale.models.position_config import AlibiConfig, HybridConfig, NoPositionsConfig, RopeConfig

D, H = 12, 3


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def explicit(n_tokens: int, window_size: int, n_sinks: int) -> Tensor:
    """True where token i sees token j."""
    i, j = torch.arange(n_tokens)[:, None], torch.arange(n_tokens)
    return (j <= i) & ((j > i - window_size) | (j < n_sinks))


def layer() -> Attention:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Attention(D, H).double()


def positions_of(config: object) -> Positions:
    return build_positions(config, d_model=D, d_head=D // H, n_heads=H, max_length=1)


@pytest.mark.parametrize(
    ("window_size", "n_sinks"), [(1, 1), (3, 4), (200, 5), (40, 600), (600, 700), (7, 0)]
)
@pytest.mark.parametrize("masked", [False, True])
def test_sinks_stay_visible_behind_the_window_and_nothing_else_does(
    window_size: int, n_sinks: int, masked: bool
) -> None:
    n_tokens = 1200
    q, k, v = (normal(2, 2, n_tokens, 4, seed=i) for i in range(3))
    real = normal(2, n_tokens, seed=4) > -1 if masked else None
    seen = explicit(n_tokens, window_size, n_sinks)
    seen = seen if real is None else real[:, None, None] & seen | torch.eye(n_tokens).bool()
    ours = attend(q, k, v, causal=True, window_size=window_size, n_sinks=n_sinks, real=real)
    expected = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "config", [NoPositionsConfig(), RopeConfig(), AlibiConfig(), HybridConfig(K=9, width=5, gate="distance")]
)
@pytest.mark.parametrize("chunk", [40, 600])
def test_chunks_equal_the_whole_with_sinks_at_their_own_positions(config: object, chunk: int) -> None:
    attention, x, n_tokens = layer(), normal(2, 620, D, seed=0), 620
    positions, steps = positions_of(config), torch.arange(620)
    place = Place.of(positions, None, like=x)
    queries, keys, values = attention.heads(attention.query_key_value(x), place)
    far = positions.relate(queries, keys, steps, steps, causal=True)
    scores = far.queries @ far.keys.mT / 2 + (0 if far.bias is None else far.bias)
    hidden = ~explicit(n_tokens, 11, 3)
    mixed = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ values
    expected = attention.output(mixed.transpose(1, 2).flatten(2))
    window = {"window_size": 11, "n_sinks": 3}
    torch.testing.assert_close(attention(x, causal=True, place=place, **window), expected)
    past, parts = None, []
    for at in steps.split(chunk):
        out, past = attention.resume(x[:, at], past, place=Place.of(positions, at, like=x[:, at]), **window)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected)


def test_the_past_keeps_sinks_and_window_and_lets_the_rest_go() -> None:
    past = None
    for n_tokens in (2, 3, 20, 1, 500):
        _, past = layer().resume(normal(1, n_tokens, D, seed=1), past, window_size=6, n_sinks=4)
    assert past.keys.shape[2] == 5 + 4
    assert past.keys.untyped_storage().nbytes() == 9 * D * 8
    assert past.values.untyped_storage().nbytes() == 9 * D * 8


def test_the_first_tokens_are_the_ones_kept() -> None:
    attention, x, kept, past = layer(), normal(1, 60, D, seed=1), [], None
    for first in range(0, 60, 7):
        at = torch.arange(first, min(first + 7, 60))
        place = Place(Positions(), at)
        _, past = attention.resume(x[:, at], past, window_size=6, n_sinks=4, place=place)
        kept.append(past.steps.tolist())
    assert kept[0] == list(range(7))
    assert kept[-1] == [0, 1, 2, 3, 55, 56, 57, 58, 59]


def test_a_decoded_token_needs_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor | None] = []
    fused = functional.scaled_dot_product_attention

    def watched(*inputs: Tensor, attn_mask: Tensor | None, **options: object) -> Tensor:
        seen.append(attn_mask)
        return fused(*inputs, attn_mask=attn_mask, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    _, past = layer().resume(normal(1, 30, D, seed=1), None, window_size=6, n_sinks=4)
    layer().resume(normal(1, 1, D, seed=2), past, window_size=6, n_sinks=4)
    assert seen[0] is not None
    assert seen[1] is None


def test_operations_grow_with_the_tokens_and_not_with_their_square() -> None:
    def added(n_tokens: int) -> int:
        window = {"n_heads": 4, "window_size": 64, "n_sinks": 8}
        return block_flops(n_tokens + 512, 64, 128, **window) - block_flops(n_tokens, 64, 128, **window)

    assert added(2**12) == added(2**20)
