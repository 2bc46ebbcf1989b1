"""First weights have the scale that their shapes ask for."""

import pytest
import torch
from torch import nn

from finscale.models.config import PatchTSTConfig
from finscale.models.contract import Batch
from finscale.models.initialise import initialise
from finscale.models.layers.block import Block
from finscale.models.layers.heads import ChannelLinear
from finscale.models.layers.instance_norm import InstanceNorm
from finscale.models.registry import build_model


def test_matrices_start_with_variance_one_over_fan_in_and_biases_at_zero() -> None:
    layer = nn.Linear(400, 300)
    initialise(layer, seed=0)
    assert layer.weight.std().item() == pytest.approx(400**-0.5, rel=0.02)
    assert layer.weight.mean().item() == pytest.approx(0, abs=0.001)
    assert not layer.bias.any()


def test_what_a_block_adds_starts_smaller_by_the_root_of_twice_the_depth() -> None:
    model = nn.ModuleList(Block(64, 4, 256) for _ in range(8))
    initialise(model, seed=0)
    for block in model:
        assert block.attention.output.weight.std().item() == pytest.approx(64**-0.5 / 4, rel=0.05)
        assert block.feed_forward.down.weight.std().item() == pytest.approx(256**-0.5 / 4, rel=0.05)
        assert block.feed_forward.up.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(9), nn.RMSNorm(9), nn.BatchNorm1d(9), InstanceNorm(9, affine=True)]
)
def test_every_norm_starts_as_the_plain_one(norm: nn.Module) -> None:
    initialise(norm, seed=1)
    assert torch.equal(norm.weight, torch.ones(9))
    biases = [parameter for name, parameter in norm.named_parameters() if name == "bias"]
    assert not any(bias.any() for bias in biases)


def test_a_map_per_channel_starts_with_variance_one_over_what_it_reads() -> None:
    layer = ChannelLinear(40, 100, 30)
    initialise(layer, seed=0)
    assert layer.weight.std().item() == pytest.approx(0.1, rel=0.03)
    assert not layer.bias.any()


def test_a_post_norm_stack_starts_with_calm_branches_too() -> None:
    model = nn.ModuleList(Block(64, 4, 256, norm_first=False) for _ in range(8))
    initialise(model, seed=0)
    assert model[3].attention.output.weight.std().item() == pytest.approx(64**-0.5 / 4, rel=0.05)


def test_the_first_weights_of_the_default_are_what_they_were() -> None:
    """Positions are drawn first, then the embedding, the blocks and the head."""
    config = PatchTSTConfig(d_model=8, n_layers=1, n_heads=2, d_ff=8, pooling="cls")
    model = build_model(config, n_features=2, context_length=20, seed=11)
    drawn = torch.Generator().manual_seed(11)
    expected = [torch.empty(shape).normal_(0, 0.02, generator=drawn) for shape in ((3, 8), (8,))]
    embedding = torch.empty(8, 20).normal_(0, 20**-0.5, generator=drawn)
    assert torch.equal(model.positions.table, expected[0])
    assert torch.equal(model.class_token.token, expected[1])
    assert torch.equal(model.embedding.linear.weight, embedding)


def test_norms_symbols_convolutions_and_free_parameters_have_their_own_scale() -> None:
    norm, symbols, taps = nn.LayerNorm(9), nn.Embedding(200, 50), nn.Conv1d(500, 500, 4, groups=500)
    free = nn.ParameterList([torch.zeros(100, 50)])
    for module in (norm, symbols, taps, free):
        initialise(module, seed=1)
    assert torch.equal(norm.weight, torch.ones(9))
    assert symbols.weight.std().item() == pytest.approx(1.0, rel=0.03)
    assert taps.weight.std().item() == pytest.approx(0.5, rel=0.05)
    assert free[0].std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(("d_model", "n_layers"), [(8, 2), (8, 256), (64, 64), (256, 2)])
def test_shallow_and_deep_narrow_and_wide_start_with_logits_of_about_one(d_model: int, n_layers: int) -> None:
    config = PatchTSTConfig(d_model=d_model, n_layers=n_layers, n_heads=2, d_ff=4 * d_model)
    x = torch.randn(64, 60, 5, generator=torch.Generator().manual_seed(0))
    spread = []
    for seed in range(5):
        model = build_model(config, n_features=5, context_length=60, n_outputs=8, seed=seed).eval()
        with torch.no_grad():
            spread.append(model(Batch(values=x)).prediction["logits"].square().mean().item())
    assert 0.1 < sum(spread) / 5 < 1.5


def test_torchs_own_first_weights_are_uniform_within_the_root_of_the_fan_in() -> None:
    layer = nn.Linear(400, 300)
    initialise(layer, seed=0, kind="torch")
    for parameter in (layer.weight, layer.bias):
        assert 0.045 < parameter.abs().max().item() <= 0.05
        assert parameter.std().item() == pytest.approx(0.05 / 3**0.5, rel=0.1)


def test_torchs_own_first_weights_are_alike_at_all_depths_and_leave_norms_plain() -> None:
    config = PatchTSTConfig(d_model=32, n_layers=8, n_heads=4, d_ff=64, initialisation="torch")
    model = build_model(config, n_features=2, context_length=20, seed=3)
    assert model.blocks[7].attention.output.weight.std().item() == pytest.approx((3 * 32) ** -0.5, rel=0.1)
    assert not model.final_norm.bias.any()
    assert 0.015 < next(model.positions.parameters()).abs().max().item() <= 0.02
