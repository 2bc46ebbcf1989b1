"""Distance penalties by columns equal the plain bias."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from finscale.models.layers.positions import Related, build_positions
from finscale.models.layers.positions.alibi import alibi_slopes
from finscale.models.position_config import AlibiConfig

H, T, D_HEAD = 4, 300, 16


def related(q: Tensor, k: Tensor, *steps: Tensor, causal: bool = True) -> Related:
    heads, d_head = q.shape[1], q.shape[-1]
    sizes = {"d_model": heads * d_head, "d_head": d_head, "n_heads": heads, "max_length": 1}
    return build_positions(AlibiConfig(), **sizes).relate(q, k, *steps, causal=causal)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_bias(n_heads: int, queries: Tensor, keys: Tensor) -> Tensor:
    slopes = torch.tensor(alibi_slopes(n_heads), dtype=torch.float64)
    return -slopes[:, None, None] * (queries[:, None] - keys)


@pytest.mark.parametrize(
    ("n_heads", "slopes"),
    [
        (1, [2**-8]),
        (2, [2**-4, 2**-8]),
        (8, [2.0**-h for h in range(1, 9)]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
        (12, [2.0**-h for h in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
    ],
)
def test_slopes_follow_the_published_rule(n_heads: int, slopes: list[float]) -> None:
    assert alibi_slopes(n_heads) == pytest.approx(slopes)


@pytest.mark.parametrize("n_heads", [1, 2, 3, 6, 8, 12, 16, 25, 71, 112])
def test_slopes_equal_those_of_bloom(n_heads: int) -> None:
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    bias = bloom.build_alibi_tensor(torch.ones(1, T), n_heads, torch.float64)[:, 0]
    ours = torch.outer(torch.tensor(alibi_slopes(n_heads)).double(), torch.arange(T).double())
    torch.testing.assert_close(ours, bias, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("n_heads", [4, 6])
@pytest.mark.parametrize("start", [0, 70_000])
def test_attention_with_columns_equals_attention_with_the_bias(n_heads: int, start: int) -> None:
    q, k, v = (normal(2, n_heads, T, D_HEAD, seed=i) for i in range(3))
    steps = torch.arange(T) + start
    wide = related(q, k, steps, steps)
    assert wide.bias is None
    assert wide.queries.shape[-1] % 8 == 0
    options = {"is_causal": True, "scale": D_HEAD**-0.5}
    ours = functional.scaled_dot_product_attention(wide.queries, wide.keys, v, **options)
    bias = plain_bias(n_heads, steps, steps).masked_fill(steps[:, None] < steps, -torch.inf)
    expected = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_distances_are_exact_in_half_precision(dtype: torch.dtype) -> None:
    keys = torch.tensor([0, 1, 255, 256, 257, 65_535, 65_536, 999_999, 1_000_000])
    zeros = torch.zeros(1, 8, 9, 64, dtype=dtype)
    wide = related(zeros[:, :, -1:], zeros, keys[-1:], keys)
    scores = (wide.queries.double() @ wide.keys.double().mT)[0, :, 0] / 8
    torch.testing.assert_close(scores, plain_bias(8, keys[-1:], keys)[:, 0], atol=0, rtol=0)


def test_a_decoded_query_meets_the_keys_before_it_without_positions() -> None:
    q, k = normal(1, H, 1, D_HEAD, seed=1), normal(1, H, 40, D_HEAD, seed=2)
    wide = related(q, k)
    added = (wide.queries @ wide.keys.mT - q @ k.mT) / D_HEAD**0.5
    expected = plain_bias(H, torch.tensor([39]), torch.arange(40))[None]
    torch.testing.assert_close(added, expected, atol=1e-10, rtol=0)


def test_without_a_causal_mask_the_penalty_is_symmetric() -> None:
    q, k = normal(1, H, 9, D_HEAD, seed=1), normal(1, H, 9, D_HEAD, seed=2)
    wide = related(q, k, causal=False)
    steps = torch.arange(9)
    assert torch.equal(wide.queries, q)
    torch.testing.assert_close(wide.bias, -plain_bias(H, steps, steps).abs())


def test_positions_of_queries_among_cached_keys_cannot_be_guessed() -> None:
    q, k = normal(1, H, 2, D_HEAD, seed=1), normal(1, H, 9, D_HEAD, seed=2)
    with pytest.raises(ValueError, match="positions and key_positions must be given together"):
        related(q, k, torch.tensor([7, 8]))
