"""Scaled rotary positions: against their formulas, and against transformers' own where it is installed."""

import math

import pytest
import torch
from torch import Tensor

from finscale.models.layers.positions import build_positions, rope_table
from finscale.models.layers.positions.rotary import dynamic_table, yarn_frequencies, yarn_temperature
from finscale.models.position_config import parse_position_config

D_HEAD, N = 64, 4096
SIZES = [
    (64, 10_000.0, 4.0, 2048),
    (32, 500_000.0, 8.0, 8192),
    (128, 1_000_000.0, 2.5, 32768),
    (8, 100.0, 40.0, 64),
    (8, 100.0, 4.0, 4096),  # the slow bound lies beyond the last pair
    (8, 10.0, 4.0, 65_536),  # and beyond the width
    (8, 10_000.0, 4.0, 6),  # no pair turns once: both bounds are pair 0
]


def tables(n: int = N, d_head: int = D_HEAD, **values: object) -> tuple[Tensor, Tensor]:
    config = parse_position_config(values)
    positions = build_positions(config, d_model=2 * d_head, d_head=d_head, n_heads=2, max_length=n)
    cos, sin = positions.tables(like=torch.zeros(1, n, d_head, dtype=torch.float64)) or (None, None)
    return cos, sin


def speeds(cos: Tensor, sin: Tensor) -> Tensor:
    """Radians a step: the phase of position 1, which is below pi."""
    return torch.atan2(sin[1], cos[1])


def test_rope_is_bit_equal_to_its_table() -> None:
    expected = rope_table(D_HEAD, N, base=500.0, dtype=torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(tables(kind="rope", base=500.0), expected, strict=True))


def test_linear_scaling_puts_position_n_times_s_where_n_was() -> None:
    plain, scaled = tables(kind="rope"), tables(kind="rope_linear", factor=4.0)
    for a, b in zip(plain, scaled, strict=True):
        torch.testing.assert_close(b[::4], a[: N // 4], atol=1e-11, rtol=0)


def test_ntk_leaves_the_fastest_pair_and_divides_the_slowest_by_the_factor() -> None:
    plain, scaled = speeds(*tables(kind="rope")), speeds(*tables(kind="rope_ntk", factor=4.0))
    assert scaled[0] == plain[0]
    assert (plain[-1] / scaled[-1]).item() == pytest.approx(4.0)
    assert ((plain / scaled).diff() > 0).all()


def test_dynamic_scaling_is_rope_up_to_the_original_length_and_ntk_beyond() -> None:
    dynamic = {"kind": "rope_dynamic", "factor": 2.0, "original_length": 1024}
    assert torch.equal(tables(1024, **dynamic)[0], tables(1024, kind="rope")[0])
    grown = 2.0 * 3000 / 1024 - 1.0
    assert torch.equal(tables(3000, **dynamic)[0], tables(3000, kind="rope_ntk", factor=grown)[0])


def test_dynamic_scaling_is_by_the_last_position_and_not_by_how_many_there_are() -> None:
    options = {"base": 10_000.0, "factor": 2.0, "original_length": 64}
    whole = dynamic_table(torch.arange(200), D_HEAD, **options)
    some = dynamic_table(torch.tensor([3, 199, 50]), D_HEAD, **options)
    assert all(torch.equal(part, table[[3, 199, 50]]) for part, table in zip(some, whole, strict=True))


def test_yarn_keeps_fast_pairs_divides_slow_ones_and_has_a_temperature() -> None:
    plain = speeds(*tables(kind="rope"))
    cos, sin = tables(kind="yarn", factor=8.0, original_length=2048)
    ratio, turns = plain / speeds(cos, sin), plain * 2048 / (2 * math.pi)
    torch.testing.assert_close(ratio[turns > 45], torch.ones_like(ratio[turns > 45]))
    torch.testing.assert_close(ratio[turns < 0.7], torch.full_like(ratio[turns < 0.7], 8.0))
    assert ((ratio > 1.01) & (ratio < 7.9)).sum() > 5
    assert (ratio.diff() > -1e-9).all()
    torch.testing.assert_close(
        cos.square() + sin.square(), torch.full_like(cos, (0.1 * math.log(8) + 1) ** 2)
    )


def test_every_scaling_by_one_is_rope() -> None:
    plain = tables(kind="rope")
    for kind in ("rope_linear", "rope_ntk", "yarn", "rope_dynamic"):
        length = {"original_length": 8192} if kind in {"yarn", "rope_dynamic"} else {}
        torch.testing.assert_close(tables(kind=kind, factor=1.0, **length), plain, atol=1e-11, rtol=0)


def llama(rope_type: str, d_head: int, base: float, original_length: int, factor: float) -> object:
    transformers = pytest.importorskip("transformers")
    rope = {"rope_type": rope_type, "rope_theta": base, "factor": factor}
    rope |= {"original_max_position_embeddings": original_length} if rope_type == "yarn" else {}
    longest = int(original_length * factor) if rope_type == "yarn" else original_length
    heads = {"hidden_size": 2 * d_head, "num_attention_heads": 2, "head_dim": d_head}
    return transformers.LlamaConfig(**heads, max_position_embeddings=longest, rope_parameters=rope)


def theirs(rope_type: str, config: object, **length: int) -> tuple[Tensor, float]:
    functions = pytest.importorskip("transformers.modeling_rope_utils").ROPE_INIT_FUNCTIONS
    frequencies, temperature = functions[rope_type](config, torch.device("cpu"), **length)
    return frequencies.double(), temperature


@pytest.mark.parametrize(("d_head", "base", "factor", "original_length"), SIZES)
def test_rope_and_linear_equal_transformers(
    d_head: int, base: float, factor: float, original_length: int
) -> None:
    modeling = pytest.importorskip("transformers.models.llama.modeling_llama")
    transformers = pytest.importorskip("transformers")
    heads = {"hidden_size": 2 * d_head, "num_attention_heads": 2, "head_dim": d_head}
    plain = transformers.LlamaConfig(**heads, rope_parameters={"rope_type": "default", "rope_theta": base})
    frequencies = modeling.LlamaRotaryEmbedding(plain).inv_freq.double()
    ours = speeds(*tables(2, d_head, kind="rope", base=base))
    torch.testing.assert_close(ours, frequencies, atol=1e-6, rtol=1e-6)
    frequencies, _ = theirs("linear", llama("linear", d_head, base, original_length, factor))
    ours = speeds(*tables(2, d_head, kind="rope_linear", base=base, factor=factor))
    torch.testing.assert_close(ours, frequencies, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("d_head", "base", "factor", "original_length"), SIZES)
def test_ntk_equals_transformers(d_head: int, base: float, factor: float, original_length: int) -> None:
    config = llama("dynamic", d_head, base, original_length, factor)
    for growth, length in ((1.0, original_length), (2 * factor - factor + 1, 2 * original_length)):
        frequencies, _ = theirs("dynamic", config, seq_len=length)
        static = speeds(*tables(2, d_head, kind="rope_ntk", base=base, factor=growth))
        torch.testing.assert_close(static, frequencies, atol=1e-6, rtol=1e-6)
        options = {"base": base, "factor": factor, "original_length": original_length}
        dynamic = speeds(*tables(length, d_head, kind="rope_dynamic", **options))
        torch.testing.assert_close(dynamic, frequencies, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("d_head", "base", "factor", "original_length"), SIZES)
def test_yarn_equals_transformers(d_head: int, base: float, factor: float, original_length: int) -> None:
    config = llama("yarn", d_head, base, original_length, factor)
    frequencies, temperature = theirs("yarn", config)
    ours = yarn_frequencies(d_head, base=base, factor=factor, original_length=original_length)
    torch.testing.assert_close(ours, frequencies, atol=1e-6, rtol=1e-6)
    assert yarn_temperature(factor) == pytest.approx(temperature, abs=1e-6)
