"""Rotary positions: relative, norm preserving, equal to complex multiplication."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.core.errors import Fault
from finscale.models.layers.positions import apply_rotary, rope_table

PAIRS = st.integers(1, 8)
BASES = st.sampled_from([100.0, 10_000.0, 500_000.0])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(n_pairs=PAIRS, base=BASES, seed=st.integers(0, 1000))
def test_rotation_is_multiplication_by_a_unit_complex_number(n_pairs: int, base: float, seed: int) -> None:
    x = normal(2, 3, 7, 2 * n_pairs, seed=seed)
    cos, sin = rope_table(2 * n_pairs, 7, base=base, dtype=torch.float64)
    plane = x[..., :n_pairs].numpy() + 1j * x[..., n_pairs:].numpy()
    speeds = np.array([base ** (-2 * i / (2 * n_pairs)) for i in range(n_pairs)])
    turned = plane * np.exp(1j * np.arange(7)[:, None] * speeds)
    expected = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(apply_rotary(x, cos, sin).numpy(), expected, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(n_pairs=PAIRS, base=BASES, shift=st.integers(1, 200))
def test_a_score_depends_on_the_distance_alone(n_pairs: int, base: float, shift: int) -> None:
    query, key = normal(1, 1, 1, 2 * n_pairs, seed=1), normal(1, 1, 1, 2 * n_pairs, seed=2)
    cos, sin = rope_table(2 * n_pairs, 260, base=base, dtype=torch.float64)

    def score(i: int, j: int) -> float:
        rows = (apply_rotary(x, cos[n : n + 1], sin[n : n + 1]) for x, n in ((query, i), (key, j)))
        return torch.mul(*rows).sum().item()

    assert score(50 + shift, 9 + shift) == pytest.approx(score(50, 9), abs=1e-9)


def test_a_score_changes_with_the_distance() -> None:
    x = normal(1, 1, 1, 8).expand(1, 1, 3, 8)
    turned = apply_rotary(x, *rope_table(8, 3, base=10_000.0, dtype=torch.float64))[0, 0]
    assert abs(turned[0] @ turned[1] - turned[0] @ turned[2]) > 0.1


def test_norms_are_preserved_and_position_zero_is_left_alone() -> None:
    x = normal(2, 2, 300, 16)
    turned = apply_rotary(x, *rope_table(16, 300, base=10_000.0, dtype=torch.float64))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])


def test_phases_are_exact_a_million_positions_out() -> None:
    cos, _ = rope_table(4, 1_000_001, base=10_000.0)
    assert cos.dtype == torch.float32
    assert cos[-1, 1].item() == pytest.approx(np.cos(1_000_000 * 0.01), abs=1e-6)
    assert cos[-1, 0].item() == pytest.approx(np.cos(1_000_000.0), abs=1e-6)


def test_an_odd_head_is_refused_with_its_width() -> None:
    with pytest.raises(Fault, match="d_head must be even for rotary positions, got 5"):
        rope_table(5, 3, base=10_000.0)
