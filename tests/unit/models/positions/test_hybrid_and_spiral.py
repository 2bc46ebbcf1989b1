"""The pi spiral's ranks and the three gates of the hybrid."""

import pytest
import torch
from torch import Tensor

from finscale.models.config import TransformerConfig
from finscale.models.contract import Batch
from finscale.models.layers.positions import Positions, build_positions
from finscale.models.position_config import HybridConfig, PiSpiralConfig, RopeConfig
from finscale.models.registry import build_model

D, H, D_HEAD, K, WIDTH = 64, 2, 32, 40, 16
SPIRAL = {"constant": "phi", "constants": "per_pair", "rotated_fraction": 0.5}


def build(config: PiSpiralConfig | HybridConfig | RopeConfig) -> Positions:
    return build_positions(config, d_model=D, d_head=D_HEAD, n_heads=H, max_length=1)


def hybrid(gate: str) -> Positions:
    return build(HybridConfig(gate=gate, K=K, width=WIDTH, **SPIRAL))


def tables(positions: Positions, steps: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    found = positions.tables(steps, like=torch.zeros(len(steps), D_HEAD, dtype=dtype))
    assert found is not None
    return torch.stack(found)


def scores(positions: Positions, steps: Tensor) -> Tensor:
    x = torch.randn(1, H, len(steps), D_HEAD, generator=torch.Generator().manual_seed(0)).double()
    q, k, bias = positions.relate(*positions.rotate(x, x.flip(2), steps), steps, steps, causal=True)
    return q @ k.mT * D_HEAD**-0.5 + (0 if bias is None else bias)


@pytest.mark.parametrize("constant", ["pi", "e", "sqrt2", "phi", "prng"])
@pytest.mark.parametrize(("constants", "rank"), [("single", 2), ("per_pair", D)])
def test_a_single_phase_gives_rank_two_and_a_phase_per_pair_full_rank(
    constant: str, constants: str, rank: int
) -> None:
    spiral = build(PiSpiralConfig(form="additive", constant=constant, constants=constants))
    code = spiral.add(torch.zeros(1, 4096, D, dtype=torch.float64))[0]
    assert torch.linalg.matrix_rank(code, rtol=1e-6).item() == rank


def test_a_rotary_spiral_turns_its_share_of_the_pairs() -> None:
    for fraction, n_turning in ((0.25, 4), (0.5, 8), (1.0, 16)):
        cos, sin = tables(build(PiSpiralConfig(rotated_fraction=fraction)), torch.arange(1, 50))
        assert (sin != 0).any(0).tolist() == [True] * n_turning + [False] * (16 - n_turning)
        assert (cos[:, n_turning:] == 1).all()


def test_the_share_of_turning_pairs_is_rounded_and_never_none() -> None:
    for fraction, n_turning in ((0.3, 5), (0.01, 1)):
        _, sin = tables(build(PiSpiralConfig(rotated_fraction=fraction)), torch.arange(1, 50))
        assert (sin != 0).any(0).sum() == n_turning


def test_a_hard_gate_is_bit_equal_to_rope_up_to_k_and_leaves_it_at_the_next_position() -> None:
    steps, rope = torch.arange(K + 2), build(RopeConfig())
    for dtype in (torch.float32, torch.float64):
        ours, expected = tables(hybrid("absolute_hard"), steps, dtype), tables(rope, steps, dtype)
        assert torch.equal(ours[:, : K + 1], expected[:, : K + 1])
        assert not torch.equal(ours[:, K + 1], expected[:, K + 1])


def test_a_decoder_under_a_hard_gate_is_bit_equal_to_the_one_under_rope_as_far_as_k() -> None:
    shape = {"vocab_size": 11, "d_model": D, "n_layers": 2, "n_heads": H, "d_ff": 32}
    tokens = torch.randint(11, (2, K + 9), generator=torch.Generator().manual_seed(1))
    said = []
    for positions in (HybridConfig(K=K, width=WIDTH, **SPIRAL), RopeConfig()):
        config = TransformerConfig(positions=positions, **shape)
        model = build_model(config, n_features=0, context_length=0, seed=2).eval()
        with torch.no_grad():
            said.append(model(Batch(tokens=tokens)).prediction["next_symbol"])
    assert torch.equal(said[0][:, : K + 1], said[1][:, : K + 1])
    assert (said[0] - said[1])[:, K + 1 :].abs().amax() > 1e-3


@pytest.mark.parametrize("n_sixteenths", [4, 8, 16, 1600])
def test_beyond_k_a_hard_gate_blends_over_its_width(n_sixteenths: int) -> None:
    n, weight = torch.tensor([K + n_sixteenths]), min(n_sixteenths / WIDTH, 1.0)
    ours, near = tables(hybrid("absolute_hard"), n), tables(build(RopeConfig()), n)
    far = tables(build(PiSpiralConfig(**SPIRAL)), n)
    torch.testing.assert_close(ours, (1 - weight) * near + weight * far)


def test_a_sigmoid_gate_leaks_below_k() -> None:
    steps = torch.tensor([0, K - WIDTH, K])
    ours, near = tables(hybrid("absolute_sigmoid"), steps), tables(build(RopeConfig()), steps)
    far = tables(build(PiSpiralConfig(**SPIRAL)), steps)
    weights = torch.sigmoid(torch.tensor([-K / WIDTH, -1.0, 0.0]))[:, None]
    torch.testing.assert_close(ours, (1 - weights) * near + weights * far)
    assert (ours - near)[:, 1].abs().max() > 0.1


def test_a_distance_gate_is_rope_near_and_the_spiral_far_at_any_position() -> None:
    for start in (0, 500_000):
        steps = torch.arange(3 * K) + start
        near, far = (scores(build(c), steps) for c in (RopeConfig(), PiSpiralConfig(**SPIRAL)))
        ours, distance = scores(hybrid("distance"), steps), (steps[:, None] - steps).abs()
        assert torch.equal(ours[..., distance <= K], near[..., distance <= K])
        beyond = distance >= K + WIDTH
        torch.testing.assert_close(ours[..., beyond], far[..., beyond], atol=1e-9, rtol=0)
        half = distance == K + WIDTH // 2
        torch.testing.assert_close(ours[..., half], (near + far)[..., half] / 2, atol=1e-9, rtol=0)


def test_under_a_distance_gate_grouped_queries_share_their_own_key() -> None:
    generator, steps = torch.Generator().manual_seed(2), torch.arange(3 * K)
    q = torch.randn(1, 4, len(steps), D_HEAD, generator=generator).double()
    k = torch.randn(1, 2, len(steps), D_HEAD, generator=generator).double()
    grouped = hybrid("distance").relate(q, k, steps, steps, causal=True)
    repeated = hybrid("distance").relate(q, k[:, [0, 0, 1, 1]], steps, steps, causal=True)
    assert torch.equal(grouped.bias, repeated.bias)


def test_without_positions_the_queries_of_a_distance_gate_are_the_last_of_the_keys() -> None:
    generator = torch.Generator().manual_seed(2)
    q, k = (torch.randn(1, H, n, D_HEAD, generator=generator).double() for n in (3, 3 * K))
    keys = torch.arange(3 * K)
    counted, given = hybrid("distance").relate(q, k, causal=True), (keys[-3:], keys)
    assert torch.equal(counted.bias, hybrid("distance").relate(q, k, *given, causal=True).bias)
    for one in ((keys + 9, None), (None, keys + 9)):  # of one and the same run of tokens
        both = hybrid("distance").relate(k, k, keys + 9, keys + 9, causal=True)
        assert torch.equal(hybrid("distance").relate(k, k, *one, causal=True).bias, both.bias)


def test_with_every_pair_turning_fast_nothing_can_be_matched_at_a_distance() -> None:
    def worst_match(fraction: float) -> float:
        spiral = build(PiSpiralConfig(constant="phi", constants="per_pair", rotated_fraction=fraction))
        x = torch.ones(1, 1, 500, D_HEAD, dtype=torch.float64)
        q, _ = spiral.rotate(x, x)
        return (q[0, 0, 1:] @ q[0, 0, 0] / D_HEAD).min().item()

    assert worst_match(1.0) < -0.3
    assert worst_match(0.25) > 0.5
