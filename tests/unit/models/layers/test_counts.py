"""Closed-form counts of a block against the built one."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from finscale.models.layers.block import Block
from finscale.models.layers.counts import bands, block_flops, block_params


@settings(max_examples=60, deadline=None)
@given(
    d_head=st.integers(1, 5),
    n_kv_heads=st.integers(1, 3),
    shared=st.integers(1, 3),
    d_ff=st.integers(1, 20),
    activation=st.sampled_from(["gelu", "relu", "swiglu"]),
    norm=st.sampled_from(["layer_norm", "rms_norm", "batch_norm"]),
    conv_taps=st.integers(0, 4),
    bias=st.booleans(),
)
def test_a_block_has_the_parameters_that_are_counted(
    d_head: int, n_kv_heads: int, shared: int, d_ff: int, **options: object
) -> None:
    n_heads = n_kv_heads * shared
    heads = {"n_heads": n_heads, "n_kv_heads": n_kv_heads}
    with torch.device("meta"):
        block = Block(d_head * n_heads, d_ff=d_ff, **heads, **options)
    counted = block_params(d_head * n_heads, d_ff, **heads, **options)
    assert counted == sum(parameter.numel() for parameter in block.parameters())


@pytest.mark.parametrize(
    ("n_kv_heads", "activation", "window_size", "n_tokens"),
    [
        (4, "gelu", None, 60),
        (1, "swiglu", None, 60),
        (2, "relu", 10, 60),
        (4, "gelu", 100, 1300),
        (2, "swiglu", 700, 1300),
    ],
)
def test_flops_of_a_block_are_those_that_torch_counts(
    n_kv_heads: int, activation: str, window_size: int | None, n_tokens: int
) -> None:
    options = {"n_heads": 4, "n_kv_heads": n_kv_heads, "activation": activation}
    with torch.device("meta"):
        block, x = Block(32, d_ff=48, **options), torch.zeros(1, n_tokens, 32)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        block(x, causal=True, window_size=window_size)
    assert block_flops(n_tokens, 32, 48, window_size=window_size, **options) == counter.get_total_flops()


@given(
    n_queries=st.integers(1, 2000), n_past=st.integers(0, 900), window_size=st.none() | st.integers(1, 1500)
)
def test_bands_cover_every_query_and_every_key_that_it_may_see(
    n_queries: int, n_past: int, window_size: int | None
) -> None:
    parts = bands(n_queries=n_queries, n_keys=n_queries + n_past, window_size=window_size)
    assert [query for part in parts for query in range(part.first, part.stop)] == list(range(n_queries))
    for part in parts:
        oldest = 0 if window_size is None else max(0, n_past + part.first - window_size + 1)
        assert part.first_key == oldest or (len(parts) == 1 and part.first_key == 0)


def test_counts_are_read_without_torch() -> None:
    code = "import sys, finscale.models.layers.counts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
