"""Closed-form counts against the built model and torch's own counter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from finscale.core.errors import Fault
from finscale.models.config import PatchTSTConfig, TransformerConfig
from finscale.models.contract import Batch
from finscale.models.counting import arch_id, count_params, flops, n_patches, n_tokens
from finscale.models.registry import build_meta_model

SIZES = {"n_features": 25, "context_length": 60}
BASE = PatchTSTConfig(d_model=64, n_layers=2, n_heads=4, d_ff=128)
DECODER = TransformerConfig(vocab_size=80, d_model=64, n_layers=2, n_heads=4, d_ff=128)


@pytest.mark.parametrize(
    ("d_model", "n_layers", "n_params"),
    [(128, 10, 2.0e6), (384, 11, 20e6), (1024, 16, 200e6), (2048, 40, 2e9)],
)
def test_published_sizes_lie_near_their_budgets(d_model: int, n_layers: int, n_params: float) -> None:
    config = PatchTSTConfig(d_model=d_model, n_layers=n_layers, n_heads=8, d_ff=4 * d_model)
    assert count_params(config, **SIZES).total == pytest.approx(n_params, rel=0.02)


@settings(max_examples=40, deadline=None)
@given(
    pooling=st.sampled_from(["mean", "flatten", "last", "cls"]),
    n_heads=st.sampled_from([1, 2, 4]),
    d_head=st.integers(1, 6),
    n_layers=st.integers(1, 4),
    d_ff=st.integers(1, 40),
    patch_length=st.integers(1, 12),
    stride=st.integers(1, 12),
    n_features=st.integers(1, 9),
    context_length=st.integers(12, 40),
    n_outputs=st.integers(1, 4),
)
def test_every_group_equals_the_parameters_it_names(
    n_heads: int, d_head: int, n_features: int, context_length: int, n_outputs: int, **fields: int
) -> None:
    config = PatchTSTConfig(d_model=n_heads * d_head, n_heads=n_heads, **fields)
    sizes = {"n_features": n_features, "context_length": context_length, "n_outputs": n_outputs}
    count, model = count_params(config, **sizes), build_meta_model(config, **sizes)
    token = 0 if model.class_token is None else model.class_token.numel()
    assert count.embedding == numel(model.embedding) + token
    assert count.positions == model.positions.numel()
    assert count.body == numel(model.blocks) + numel(model.final_norm)
    assert count.head == numel(model.head)
    assert count.total == numel(model)


def numel(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def counted_by_torch(config: PatchTSTConfig | TransformerConfig) -> tuple[int, int]:
    model = build_meta_model(config, **SIZES).train()
    batch = Batch(values=torch.zeros(3, 60, 25, device="meta"))
    if isinstance(config, TransformerConfig):
        batch = Batch(tokens=torch.zeros(3, 60, dtype=torch.int64, device="meta"))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        (prediction,) = model(batch).prediction.values()
        forward = counter.get_total_flops()
        prediction.sum().backward()
    return forward // 3, counter.get_total_flops() // 3


@pytest.mark.parametrize(
    "config",
    [
        PatchTSTConfig(d_model=128, n_layers=10, n_heads=8, d_ff=512),
        PatchTSTConfig(d_model=64, n_layers=64, n_heads=2, d_ff=128, pooling="cls"),
        PatchTSTConfig(d_model=8, n_layers=6, n_heads=8, d_ff=16, pooling="flatten"),
        BASE,
        DECODER.model_copy(update={"conv_taps": 0}),
    ],
    ids=lambda config: f"{config.family}-{config.d_model}x{config.n_layers}",
)
def test_flops_agree_with_the_counter_of_torch(config: PatchTSTConfig | TransformerConfig) -> None:
    ours, (forward, training) = flops(config, **SIZES), counted_by_torch(config)
    assert ours.forward == pytest.approx(forward, rel=1e-3)
    assert ours.training == pytest.approx(training, rel=1e-3)


def test_a_convolution_adds_two_flops_per_tap_channel_and_token() -> None:
    plain = flops(DECODER.model_copy(update={"conv_taps": 0}), **SIZES)
    both = flops(DECODER, **SIZES)
    # torch's counter takes the weight gradient of a depthwise convolution for a dense one: forward only
    assert both.forward == counted_by_torch(DECODER)[0]
    assert both.forward - plain.forward == 2 * 3 * 64 * 60 * DECODER.n_layers
    assert both.training - plain.training == 3 * (both.forward - plain.forward)


def test_a_large_model_takes_six_flops_per_parameter_and_token() -> None:
    config = PatchTSTConfig(d_model=1024, n_layers=16, n_heads=8, d_ff=4096)
    per_token = flops(config, **SIZES).training / n_tokens(config, context_length=60)
    assert per_token == pytest.approx(6 * count_params(config, **SIZES).total, rel=0.01)


@given(context_length=st.integers(1, 300), patch_length=st.integers(1, 300), stride=st.integers(1, 50))
def test_patches_are_the_starts_that_fit(context_length: int, patch_length: int, stride: int) -> None:
    starts = [k for k in range(0, context_length, stride) if k + patch_length <= context_length]
    sizes = {"context_length": context_length, "patch_length": patch_length, "stride": stride}
    if starts:
        assert n_patches(**sizes) == len(starts)
    else:
        with pytest.raises(Fault, match=f"got context_length={context_length}, patch_length={patch_length}"):
            n_patches(**sizes)


def test_an_arch_id_ignores_dropout() -> None:
    assert arch_id(BASE.model_copy(update={"dropout": 0.5}), **SIZES) == arch_id(BASE, **SIZES)


@pytest.mark.parametrize("config", [BASE, DECODER], ids=["patchtst", "transformer"])
def test_an_arch_id_changes_with_every_other_field_and_with_f_and_t(config: PatchTSTConfig) -> None:
    other = {"pooling": "last", "positions": "none", "rope_base": 500.0, "family": "other"}
    fields = set(type(config).model_fields) - {"dropout"}
    changes = [{name: other.get(name, getattr(config, name) if name in other else 77)} for name in fields]
    ids = {arch_id(config.model_copy(update=change), **SIZES) for change in changes}
    ids |= {arch_id(config, **{**SIZES, name: 24}) for name in SIZES}
    assert len(ids | {arch_id(config, **SIZES)}) == len(fields) + 2 + 1
