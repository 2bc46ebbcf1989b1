"""Attention against an explicit softmax."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from finscale.models.layers.attention import Attention, KeyValues, Place, attend
from finscale.models.layers.counts import MOST_KEYS, bands
from finscale.models.layers.few_keys import mix_few_keys
from finscale.models.layers.positions import Positions, apply_rotary, build_positions, rope_table
from finscale.models.position_config import AlibiConfig, HybridConfig

B, T, D, H = 3, 7, 12, 3


def layer(**options: object) -> Attention:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Attention(D, H, **options).double()


def tokens(seed: int = 0) -> Tensor:
    return torch.randn(B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def explicit(
    attention: Attention, x: Tensor, allowed_BTT: Tensor, rotary: tuple[Tensor, Tensor] | None
) -> Tensor:
    queries, keys, values = (
        part.reshape(B, T, H, -1) for part in attention.query_key_value(x).split(D, dim=2)
    )
    mixed = torch.zeros(B, T, H, D // H, dtype=x.dtype)
    for head in range(H):
        q, k = queries[:, :, head], keys[:, :, head]
        if rotary is not None:
            q, k = (apply_rotary(z[:, None], *rotary)[:, 0] for z in (q, k))
        scores = torch.einsum("bid,bjd->bij", q, k) / (D // H) ** 0.5
        weights = torch.exp(scores) * allowed_BTT
        mixed[:, :, head] = weights / weights.sum(2, keepdim=True) @ values[:, :, head]
    return attention.output(mixed.reshape(B, T, D))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_an_explicit_softmax(causal: bool, rotated: bool, masked: bool) -> None:
    attention, x = layer(), tokens()
    rotary = rope_table(D // H, T, base=100.0, dtype=torch.float64) if rotated else None
    place = Place(Positions(), None, rotary)
    mask = torch.ones(B, T, dtype=torch.bool)
    if masked:
        mask[0, 5:], mask[1, 2] = False, False
    allowed = mask[:, None, :].expand(B, T, T) & (torch.ones(T, T).tril().bool() if causal else True)
    real = mask.clone()
    out = attention(x, causal=causal, place=place, mask=mask if masked else None)
    torch.testing.assert_close(out[real], explicit(attention, x, allowed, rotary)[real])


def test_true_in_a_mask_means_attend() -> None:
    attention, x = layer(), tokens()
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[:, 4] = False
    moved = {at: x.clone() for at in (3, 4)}
    for at, other in moved.items():
        other[:, at] += 1.0
    before = attention(x, mask=mask)[:, 0]
    torch.testing.assert_close(attention(moved[4], mask=mask)[:, 0], before)
    assert not torch.allclose(attention(moved[3], mask=mask)[:, 0], before)


def test_leading_padding_leaves_no_query_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    attend = functional.scaled_dot_product_attention

    def watched(*inputs: Tensor, attn_mask: Tensor, **options: object) -> Tensor:
        seen.append(attn_mask)
        return attend(*inputs, attn_mask=attn_mask, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    mask = torch.arange(T).expand(B, T) >= 3
    assert layer()(tokens(), causal=True, mask=mask).isfinite().all()
    assert seen[0].any(dim=-1).all()


def test_without_biases_the_projections_alone_remain() -> None:
    assert sum(p.numel() for p in layer(bias=False).parameters()) == 4 * D * D


@pytest.mark.parametrize("n_kv_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_shared_heads_equal_full_attention_with_those_heads_repeated(n_kv_heads: int, masked: bool) -> None:
    n_heads, d_head = 6, 2
    with torch.random.fork_rng():
        torch.manual_seed(1)
        shared = Attention(D, n_heads, n_kv_heads=n_kv_heads)
    full, x = Attention(D, n_heads), tokens().float()
    queries, keys, values = shared.query_key_value.weight.split([D, *[d_head * n_kv_heads] * 2])
    biases = shared.query_key_value.bias.split([D, *[d_head * n_kv_heads] * 2])
    each = n_heads // n_kv_heads
    full.query_key_value.weight.data = torch.cat(
        [queries, *(repeated(w, d_head, each) for w in (keys, values))]
    )
    full.query_key_value.bias.data = torch.cat([biases[0], *(repeated(b, d_head, each) for b in biases[1:])])
    full.output.load_state_dict(shared.output.state_dict())
    mask = torch.arange(T).expand(B, T) >= 2 if masked else None
    options = {"causal": True, "mask": mask, "window_size": 4 if masked else None}
    torch.testing.assert_close(shared(x, **options), full(x, **options), rtol=0, atol=1e-6)


def repeated(rows: Tensor, d_head: int, times: int) -> Tensor:
    """Every head (a run of d_head rows) ``times`` times in a row."""
    return rows.unflatten(0, (-1, d_head)).repeat_interleave(times, dim=0).flatten(0, 1)


@pytest.mark.parametrize("window_size", [1, 3, 200, 600])
@pytest.mark.parametrize("n_past", [0, 130])
@pytest.mark.parametrize("masked", [False, True])
def test_bands_of_a_window_equal_one_explicit_mask(window_size: int, n_past: int, masked: bool) -> None:
    n_queries, generator = 1200, torch.Generator().manual_seed(4)
    n_keys = n_queries + n_past
    q, k, v = (torch.randn(2, 2, n, 4, generator=generator) for n in (n_queries, n_keys, n_keys))
    real = torch.rand(2, n_keys, generator=generator) > 0.1 if masked else None
    i, j = torch.arange(n_past, n_keys)[:, None], torch.arange(n_keys)
    seen = (j <= i) & (j > i - window_size)
    seen = seen if real is None else real[:, None, None] & seen | (i == j)
    banded = attend(q, k, v, causal=True, window_size=window_size, real=real)
    explicit = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    torch.testing.assert_close(banded, explicit, rtol=0, atol=1e-5)


def test_a_band_never_reads_more_keys_than_its_queries_and_the_window() -> None:
    parts = bands(n_queries=100_000, n_keys=130_000, window_size=300)
    assert max(part.stop + 30_000 - part.first_key for part in parts) == 512 + 299
    assert [part.first for part in parts[1:]] == [part.stop for part in parts[:-1]]


def test_dense_causal_attention_hands_sdpa_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor | None] = []
    attend_fused = functional.scaled_dot_product_attention

    def watched(*inputs: Tensor, attn_mask: Tensor | None, **options: object) -> Tensor:
        seen.append(attn_mask)
        return attend_fused(*inputs, attn_mask=attn_mask, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    attention, x = layer(), tokens()
    _, past = attention.resume(x, None)
    attention(x, causal=True), attention(x, causal=True, window_size=T)
    attention.resume(x[:, :1], past)
    assert seen == [None] * 4
    attention(x, causal=True, window_size=T - 1)
    assert seen[-1] is not None


def test_what_is_evicted_is_let_go() -> None:
    _, past = layer().resume(tokens()[:1, :, :], None, window_size=3)
    assert past.keys.untyped_storage().nbytes() == 2 * D * 8
    assert isinstance(past, KeyValues)


def test_a_past_with_padding_is_remembered_as_padding() -> None:
    attention, x = layer(), tokens()
    mask = torch.ones(B, 4, dtype=torch.bool)
    mask[:, 1] = False
    moved = x.clone()
    moved[:, 1] += 1.0
    said = []
    for tokens_BTD in (x, moved):
        _, past = attention.resume(tokens_BTD[:, :4], None, mask=mask)
        said.append(attention.resume(tokens_BTD[:, 4:], past)[0])
    torch.testing.assert_close(*said)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window_size", [None, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_columns_and_biases_of_positions_leave_the_scale_to_the_head(
    causal: bool, window_size: int | None, masked: bool
) -> None:
    attention, x = layer(), tokens()
    alibi = build_positions(AlibiConfig(), d_model=D, d_head=D // H, n_heads=H, max_length=T)
    window_size = window_size if causal else None
    mask = torch.arange(T).expand(B, T) >= 2 if masked else None
    i, j = torch.arange(T)[:, None], torch.arange(T)
    seen = ((j <= i) | (not causal)) & (j > i - (window_size or T))
    seen_BTT = seen.expand(B, T, T) if mask is None else seen & mask[:, None] | (i == j)
    options = {"causal": causal, "window_size": window_size, "mask": mask}
    out = attention(x, place=Place.of(alibi, None, like=x), **options)
    queries, keys, values = (
        part.unflatten(2, (H, -1)).transpose(1, 2) for part in attention.query_key_value(x).split(D, dim=2)
    )
    slopes = torch.tensor(alibi.slopes, dtype=x.dtype)[:, None, None]
    scores = queries @ keys.mT / (D // H) ** 0.5 - slopes * (i - j).abs()
    mixed = torch.softmax(scores.masked_fill(~seen_BTT[:, None], -torch.inf), dim=3) @ values
    torch.testing.assert_close(out, attention.output(mixed.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("given", [False, True])
def test_every_band_knows_where_its_keys_stand(given: bool) -> None:
    n_tokens, window_size, generator = 1100, 40, torch.Generator().manual_seed(4)
    hybrid = build_positions(
        HybridConfig(K=3, width=5, gate="distance"), d_model=8, d_head=4, n_heads=2, max_length=n_tokens
    )
    q, k, v = (torch.randn(1, 2, n_tokens, 4, dtype=torch.float64, generator=generator) for _ in range(3))
    steps = torch.arange(n_tokens)
    stands = steps // 2 + 3 * (steps > 600) if given else None
    place = Place.of(hybrid, stands, like=q)
    q, k = place.rotate(q, k)
    far = hybrid.relate(q, k, stands, stands, causal=True)
    distance = steps[:, None] - steps
    bias = torch.where((distance >= 0) & (distance < window_size), far.bias, -torch.inf)
    explicit = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    banded = attend(q, k, v, causal=True, window_size=window_size, place=place)
    torch.testing.assert_close(banded, explicit)


def fused(packed: Tensor, n_heads: int) -> Tensor:
    heads = packed.unflatten(2, (3 * n_heads, -1)).transpose(1, 2).split(n_heads, dim=1)
    return functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)


@pytest.mark.parametrize(("n_windows", "n_tokens", "n_heads"), [(1, 1, 1), (3, 5, 2), (2, 11, 4), (5, 40, 3)])
def test_few_keys_are_mixed_as_by_the_fused_kernel_and_so_are_their_gradients(
    n_windows: int, n_tokens: int, n_heads: int
) -> None:
    random = torch.Generator().manual_seed(2)
    packed = 2 * torch.randn(n_windows, n_tokens, 3 * n_heads * 4, dtype=torch.float64, generator=random)
    outer = torch.randn(n_windows, n_tokens, n_heads * 4, dtype=torch.float64, generator=random)
    packed.requires_grad_()
    ours, theirs = mix_few_keys(packed, n_heads=n_heads), fused(packed, n_heads)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    back = [torch.autograd.grad((out * outer).sum(), packed)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*back, rtol=1e-12, atol=1e-12)


def test_few_keys_far_apart_neither_overflow_nor_lose_their_gradient() -> None:
    packed = 300 * torch.randn(2, 6, 3 * 8, generator=torch.Generator().manual_seed(0))
    packed.requires_grad_()
    out = mix_few_keys(packed, n_heads=2)
    torch.testing.assert_close(out, fused(packed, 2))
    assert out.isfinite().all()
    assert torch.autograd.grad(out.sum(), packed)[0].isfinite().all()


def test_few_keys_in_half_precision_take_their_softmax_in_single() -> None:
    packed = torch.randn(4, 11, 3 * 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = fused(packed.double(), 2)
    out = mix_few_keys(packed, n_heads=2)
    assert out.dtype == torch.bfloat16
    assert (out.double() - exact).abs().max() < 0.02


@pytest.mark.parametrize("n_tokens", [MOST_KEYS, MOST_KEYS + 1])
def test_both_ways_of_attending_agree_where_one_takes_over_from_the_other(n_tokens: int) -> None:
    attention = layer()
    x = torch.randn(2, n_tokens, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    heads = attention.heads(attention.query_key_value(x), None)
    plain = attention.output(attend(*heads, causal=False).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x), plain)


@pytest.mark.parametrize("positions", [AlibiConfig(), HybridConfig(K=2, width=2)])
def test_positions_that_attention_must_know_are_never_left_out(positions: object) -> None:
    attention, x = layer(), tokens()
    place = Place.of(
        build_positions(positions, d_model=D, d_head=D // H, n_heads=H, max_length=T), None, like=x
    )
    assert not place.is_plain
    assert not torch.allclose(attention(x, place=place), attention(x))
