"""Attention against an explicit softmax."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from finscale.models.layers.attention import Attention
from finscale.models.layers.positions import apply_rotary, rope_table

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
    mask = torch.ones(B, T, dtype=torch.bool)
    if masked:
        mask[0, 5:], mask[1, 2] = False, False
    allowed = mask[:, None, :].expand(B, T, T) & (torch.ones(T, T).tril().bool() if causal else True)
    real = mask.clone()
    out = attention(x, causal=causal, rotary=rotary, mask=mask if masked else None)
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


def test_dropout_acts_while_training_alone() -> None:
    attention, x = layer(dropout=0.5), tokens()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(attention.train()(x), attention(x))
        assert torch.equal(attention.eval()(x), attention(x))
    torch.testing.assert_close(attention(x), layer()(x))


def test_without_biases_the_projections_alone_remain() -> None:
    assert sum(p.numel() for p in layer(bias=False).parameters()) == 4 * D * D
