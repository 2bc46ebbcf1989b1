"""Closed-form counts against the built model and torch's own counter."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from finscale.core.errors import Fault
from finscale.models.config import (
    AnyConfig,
    DLinearConfig,
    NaiveConfig,
    PatchTSTConfig,
    TransformerConfig,
)
from finscale.models.contract import Batch
from finscale.models.counting import arch_id, count_params, flops, n_patches, n_tokens
from finscale.models.head_config import ForecastHead, QuantileHead
from finscale.models.position_config import AlibiConfig, CalendarConfig, HybridConfig, RopeConfig
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


POSITIONS = [
    {"kind": "none"},
    {"kind": "learned"},
    {"kind": "rope"},
    {"kind": "alibi"},
    {"kind": "calendar", "session_bars": 78},
    {"kind": "time2vec", "session_bars": 78, "d_weekday": 3},
]
COLUMNS = st.sampled_from([None, (0,), (2, 0)])
HEADS = st.one_of(
    st.builds(lambda: {"kind": "logits"}),
    st.builds(lambda: {"kind": "regression"}),
    st.builds(lambda: {"kind": "quantiles", "horizons": (1, 3), "levels": (0.1, 0.5, 0.9)}),
    st.builds(lambda horizon: {"kind": "forecast", "horizon": horizon}, st.integers(1, 9)),
)


@settings(max_examples=120, deadline=None)
@given(
    pooling=st.sampled_from(["mean", "flatten", "last", "cls"]),
    channels=st.sampled_from(["mixed", "independent"]),
    pad_end=st.booleans(),
    instance_norm=st.sampled_from(["none", "revin", "revin_affine"]),
    norm=st.sampled_from(["layer_norm", "rms_norm", "batch_norm"]),
    norm_first=st.booleans(),
    positions=st.sampled_from(POSITIONS),
    head=HEADS,
    columns=COLUMNS,
    individual=st.booleans(),
    n_heads=st.sampled_from([1, 2, 4]),
    d_head=st.sampled_from([2, 4, 6]),
    n_layers=st.integers(1, 4),
    d_ff=st.integers(1, 40),
    patch_length=st.integers(1, 12),
    stride=st.integers(1, 12),
    n_features=st.integers(3, 9),
    context_length=st.integers(12, 40),
    n_outputs=st.integers(1, 4),
)
def test_every_group_equals_the_parameters_it_names(
    n_heads: int,
    d_head: int,
    n_features: int,
    context_length: int,
    n_outputs: int,
    head: dict[str, Any],
    columns: tuple[int, ...] | None,
    individual: bool,
    **fields: Any,
) -> None:
    forecast, independent = head["kind"] == "forecast", fields["channels"] == "independent"
    if forecast:
        tied = columns if independent or fields["instance_norm"] != "none" else None
        head = {**head, "n_channels": len(tied) if tied else n_features, "columns": tied}
    values = {"d_model": n_heads * d_head, "n_heads": n_heads, "head": head, **fields}
    config = PatchTSTConfig.read({**values, "head_per_channel": individual and forecast and independent})
    sizes = {"n_features": n_features, "context_length": context_length}
    sizes["n_outputs"] = n_outputs if head["kind"] == "logits" else 1
    count, model = count_params(config, **sizes), build_meta_model(config, **sizes)
    assert count.embedding == sum(map(numel, (model.embedding, model.instance_norm, model.class_token)))
    assert count.positions == numel(model.positions)
    assert count.body == numel(model.blocks) + numel(model.final_norm)
    assert count.head == numel(model.head)
    assert count.total == numel(model)


@settings(max_examples=40, deadline=None)
@given(
    head=HEADS,
    individual=st.booleans(),
    n_features=st.integers(1, 9),
    context_length=st.integers(2, 40),
    n_outputs=st.integers(1, 4),
)
def test_a_linear_model_is_its_head(
    head: dict[str, Any], individual: bool, n_outputs: int, **sizes: int
) -> None:
    forecast = head["kind"] == "forecast"
    if forecast:
        head = {**head, "n_channels": sizes["n_features"]}
    config = DLinearConfig.read({"head": head, "individual": individual and forecast})
    sizes["n_outputs"] = n_outputs if head["kind"] == "logits" else 1
    count = count_params(config, **sizes)
    assert count.total == count.head == numel(build_meta_model(config, **sizes))


def numel(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())


def counted_by_torch(config: AnyConfig, sizes: dict[str, int] = SIZES) -> tuple[int, int]:
    model = build_meta_model(config, **sizes).train()
    n_bars, n_features = sizes["context_length"], sizes["n_features"]
    calendar = None
    if isinstance(getattr(config, "positions", None), CalendarConfig):
        calendar = torch.zeros(3, n_bars, 4, dtype=torch.int64, device="meta")
    batch = Batch(values=torch.zeros(3, n_bars, n_features, device="meta"), calendar=calendar)
    if isinstance(config, TransformerConfig):
        batch = Batch(tokens=torch.zeros(3, n_bars, dtype=torch.int64, device="meta"))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        (prediction,) = model(batch).prediction.values()
        forward = counter.get_total_flops()
        prediction.sum().backward()
    return forward // 3, counter.get_total_flops() // 3


FORECAST = ForecastHead(horizon=24, n_channels=25)
QUANTILES = QuantileHead(horizons=(3, 6))
WIDE = PatchTSTConfig(d_model=128, n_layers=10, n_heads=8, d_ff=512)
INDEPENDENT = BASE.model_copy(update={"channels": "independent", "pooling": "flatten", "head": FORECAST})


@pytest.mark.parametrize(
    "config",
    [
        WIDE,
        PatchTSTConfig(d_model=64, n_layers=64, n_heads=2, d_ff=128, pooling="cls"),
        PatchTSTConfig(d_model=8, n_layers=6, n_heads=8, d_ff=16, pooling="flatten"),
        BASE,
        BASE.model_copy(update={"pad_end": True, "instance_norm": "revin", "head": QUANTILES}),
        BASE.model_copy(update={"norm": "batch_norm", "norm_first": False}),
        BASE.model_copy(update={"instance_norm": "revin_affine", "head": FORECAST}),
        INDEPENDENT,
        INDEPENDENT.model_copy(update={"head_per_channel": True, "instance_norm": "revin_affine"}),
        BASE.model_copy(update={"channels": "independent", "pooling": "cls"}),
        BASE.model_copy(update={"positions": AlibiConfig()}),
        BASE.model_copy(update={"positions": HybridConfig(gate="distance")}),
        BASE.model_copy(update={"positions": CalendarConfig(session_bars=78), "channels": "independent"}),
        DLinearConfig(head=FORECAST),
        DLinearConfig(head=FORECAST, individual=True),
        DLinearConfig(),
        DECODER.model_copy(update={"conv_taps": 0}),
    ],
    ids=lambda config: f"{config.family}-{getattr(config, 'd_model', '')}x{getattr(config, 'n_layers', '')}",
)
def test_flops_agree_with_the_counter_of_torch(config: AnyConfig) -> None:
    ours, (forward, training) = flops(config, **SIZES), counted_by_torch(config)
    assert ours.forward == pytest.approx(forward, rel=1e-3)
    assert ours.training == pytest.approx(training, rel=1e-3)


@pytest.mark.parametrize(
    ("d_model", "n_layers"), [(128, 10), (384, 11), (1024, 16)], ids=["2M", "20M", "200M"]
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channels": "independent", "pooling": "flatten", "head": FORECAST, "instance_norm": "revin"},
        {"pooling": "cls", "pad_end": True, "norm": "rms_norm", "positions": RopeConfig()},
    ],
    ids=["default", "independent", "rope-cls"],
)
def test_flops_agree_with_the_counter_of_torch_at_the_budgets(
    d_model: int, n_layers: int, options: dict[str, Any]
) -> None:
    config = PatchTSTConfig(d_model=d_model, n_layers=n_layers, n_heads=8, d_ff=4 * d_model, **options)
    ours, (forward, training) = flops(config, **SIZES), counted_by_torch(config)
    assert ours.forward == pytest.approx(forward, rel=0.002)
    assert ours.training == pytest.approx(training, rel=0.002)


def test_a_naive_forecast_costs_nothing() -> None:
    config = NaiveConfig(head=FORECAST)
    assert flops(config, **SIZES).training == 0
    assert count_params(config, **SIZES).total == 0


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
    dropped = BASE.model_copy(update={"dropout": 0.5, "head_dropout": 0.3})
    assert arch_id(dropped, **SIZES) == arch_id(BASE, **SIZES)


def test_one_more_patch_fits_where_the_end_is_padded() -> None:
    sizes = {"context_length": 60, "patch_length": 10, "stride": 5}
    assert n_patches(**sizes, pad_end=True) == n_patches(**sizes) + 1 == 12
    padded = BASE.model_copy(update={"pad_end": True, "pooling": "cls"})
    assert n_tokens(padded, context_length=60) == 13


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("config", [BASE, DECODER], ids=["patchtst", "transformer"])
def test_an_arch_id_changes_with_every_other_field_and_with_f_and_t(config: AnyConfig) -> None:
    other = {"positions": AlibiConfig(), "head": QUANTILES}
    fields = set(type(config).model_fields) - {"dropout", "head_dropout"}
    changes = [{name: other.get(name, f"another-{name}")} for name in fields]
    ids = {arch_id(config.model_construct(**{**dict(config), **change}), **SIZES) for change in changes}
    ids |= {arch_id(config, **{**SIZES, name: 24}) for name in SIZES}
    assert len(ids | {arch_id(config, **SIZES)}) == len(fields) + 2 + 1
