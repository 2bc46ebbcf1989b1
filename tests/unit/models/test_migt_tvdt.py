"""The MIGT-TVDT: what it counts, what it hears, and in which order it reads."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import gelu
from torch.utils.flop_counter import FlopCounterMode

from finscale.core.errors import FinscaleError
from finscale.models.config import MigtTvdtConfig, reads_calendar
from finscale.models.contract import Batch
from finscale.models.counting import count_params, flops
from finscale.models.head_config import ForecastHead, LogitsHead, QuantileHead, RegressionHead
from finscale.models.migt_tvdt import MigtTvdt
from finscale.models.registry import build_meta_model, build_model

V, T, B, SESSION = 3, 22, 5, 78
QUANTILES = QuantileHead(horizons=(3, 6, 12, 24, 48))
FORECAST = ForecastHead(horizon=6, n_channels=2, columns=(2, 0))
OPTIONS: dict[str, dict[str, Any]] = {
    "quantiles": {"head": QUANTILES},
    "forecast": {"head": FORECAST},
    "time2vec": {"time2vec": True},
    "deep": {"n_layers": 5},
}
PADDING = {
    "left": [0] * 7 + [1] * 15,
    "right": [1] * 14 + [0] * 8,
    "holes": [1] * 3 + [0] * 10 + [1, 0] * 4 + [0],
    "one bar": [0] * 10 + [1] + [0] * 11,
    "none": [1] * 22,
}
MASK = torch.tensor(list(PADDING.values()), dtype=torch.bool)

every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def config_of(**fields: Any) -> MigtTvdtConfig:
    tiny = {"d_model": 12, "n_layers": 2, "n_heads": 3, "d_ff": 20, "dropout": 0.0, "session_bars": SESSION}
    return MigtTvdtConfig.model_validate({**tiny, **fields})


def model_of(n_features: int = V, context_length: int = T, **fields: Any) -> MigtTvdt:
    """A model in double precision whose every parameter says something."""
    sizes = {"n_features": n_features, "context_length": context_length}
    model = build_model(config_of(**fields), **sizes, seed=5).double().eval()
    generator = torch.Generator().manual_seed(8)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    assert isinstance(model, MigtTvdt)
    return model


def calendar_of(n_windows: int, n_bars: int) -> Tensor:
    """Bars one after the other, each window beginning at another one."""
    bars = torch.arange(n_bars) + 31 * torch.arange(n_windows)[:, None]
    days = bars // SESSION
    return torch.stack((bars % SESSION, days % 5, 1 + days % 31, 1 + days % 366), dim=2)


def windows(mask: Tensor | None = MASK, *, padding: float = 0.0, code: int = 0, n_bars: int = T) -> Batch:
    generator = torch.Generator().manual_seed(1)
    n_windows = B if mask is None else len(mask)
    values = 3 + torch.randn(n_windows, n_bars, V, dtype=torch.float64, generator=generator)
    calendar = calendar_of(n_windows, n_bars)
    if mask is not None:
        values, calendar = (
            x.masked_fill(~mask[:, :, None], fill) for x, fill in ((values, padding), (calendar, code))
        )
    return Batch(values=values, calendar=calendar, mask=mask)


def heard(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    output = model(batch)
    (prediction,) = output.prediction.values()
    return prediction, output.embedding


def gradients(model: nn.Module, batch: Batch) -> list[Tensor]:
    model.zero_grad()
    heard(model, batch)[0].square().sum().backward()
    return [parameter.grad for parameter in model.parameters()]


def numel(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_the_defaults_are_the_published_size() -> None:
    config = MigtTvdtConfig(head=QUANTILES)
    assert config.positions.d_code == 96
    sizes = {"n_features": 24, "context_length": 288}
    count = count_params(config, **sizes)
    assert count.total == pytest.approx(6.87e6, rel=0.01)
    assert count.total == numel(build_meta_model(config, **sizes)) == 6_851_219


@settings(max_examples=60, deadline=None)
@given(
    head=st.sampled_from([LogitsHead(), RegressionHead(), QUANTILES, FORECAST]),
    n_heads=st.sampled_from([1, 2, 3]),
    d_head=st.sampled_from([2, 4, 6]),
    n_layers=st.integers(1, 5),
    d_ff=st.integers(1, 40),
    time2vec=st.booleans(),
    session_bars=st.sampled_from([1, 2, 8, 24, 31, 78, 276, 288]),
    n_features=st.integers(3, 9),
    context_length=st.integers(1, 40),
    n_outputs=st.integers(1, 4),
)
def test_every_group_equals_the_parameters_it_names(
    n_heads: int, d_head: int, n_features: int, context_length: int, n_outputs: int, **fields: Any
) -> None:
    config = MigtTvdtConfig.read({"d_model": n_heads * d_head, "n_heads": n_heads, **fields})
    sizes = {"n_features": n_features, "context_length": context_length}
    sizes["n_outputs"] = n_outputs if config.head.kind == "logits" else 1
    count, model = count_params(config, **sizes), build_meta_model(config, **sizes)
    assert isinstance(model, MigtTvdt)
    assert count.embedding == numel(model.embedding)
    assert count.positions == numel(model.positions)
    stages = (model.blocks, model.final_norm, model.time_pool, model.variable_blocks, model.variable_norm)
    assert count.body == numel(*stages)
    assert count.head == numel(model.output_pool, model.hidden, model.head)
    assert count.total == numel(model)


@pytest.mark.parametrize(
    ("sizes", "fields"),
    [
        ((24, 288), {"d_model": 256, "n_layers": 4, "n_heads": 8, "d_ff": 1024, "head": QUANTILES}),
        ((25, 60), {"d_model": 8, "n_heads": 2, "d_ff": 16, "n_layers": 7, "session_bars": 1}),
        ((5, 12), {"time2vec": True, "head": ForecastHead(horizon=3, n_channels=5)}),
    ],
)
def test_flops_agree_with_the_counter_of_torch(sizes: tuple[int, int], fields: dict[str, Any]) -> None:
    n_features, n_bars = sizes
    config, named = config_of(**fields), {"n_features": n_features, "context_length": n_bars}
    model = build_meta_model(config, **named).train()
    calendar = torch.zeros(3, n_bars, 4, dtype=torch.int64, device="meta")
    batch = Batch(values=torch.zeros(3, n_bars, n_features, device="meta"), calendar=calendar)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        prediction, _ = heard(model, batch)
        forward = counter.get_total_flops()
        prediction.sum().backward()
    ours = flops(config, **named)
    assert ours.forward == pytest.approx(forward / 3, rel=1e-3)
    assert ours.training == pytest.approx(counter.get_total_flops() / 3, rel=1e-3)


@pytest.mark.parametrize(
    ("session_bars", "d_code"), [(288, 96), (276, 96), (78, 96), (24, 88), (8, 72), (2, 66), (1, 66)]
)
def test_the_code_holds_every_distinct_harmonic_of_a_session(session_bars: int, d_code: int) -> None:
    config = config_of(session_bars=session_bars)
    assert config.positions.d_code == d_code
    assert reads_calendar(config)
    code = model_of(session_bars=session_bars).positions.code
    slots = torch.arange(session_bars)[:, None] * torch.tensor([1, 0, 0, 0])
    found = torch.pdist(code(slots[None])[0].detach())
    assert session_bars == 1 or found.min() > 1e-3


def test_every_fault_of_a_config_is_told() -> None:
    with pytest.raises(FinscaleError, match=r"d_model must be even.*got 9; try 10"):
        MigtTvdtConfig.read({"d_model": 9, "n_heads": 3})
    with pytest.raises(FinscaleError, match=r"n_heads must divide d_model, got n_heads=5, d_model=16"):
        MigtTvdtConfig.read({"d_model": 16, "n_heads": 5})


def stage_by_stage(model: MigtTvdt, values: Tensor, calendar: Tensor) -> Tensor:
    """The numbers of one window, variable after variable and bar after bar."""
    centred = values - values.mean(0)
    normed = centred / (centred.square().mean(0) + 1e-5).sqrt()
    place = model.positions.linear(model.positions.code(calendar[None]))[0]
    pooled = []
    for variable in range(V):
        weight, bias = model.embedding.weight[variable, :, 0], model.embedding.bias[variable]
        x = torch.stack([weight * bar for bar in normed[:, variable]]) + bias + place
        x = model.final_norm(model.blocks(x[None]))[0]
        asked = torch.tanh(model.time_pool.linear(x)) @ model.time_pool.query
        pooled.append((asked.softmax(0)[:, None] * x).sum(0))
    x = model.variable_norm(model.variable_blocks(torch.stack(pooled)[None]))
    return model.head(gelu(model.hidden(gelu(model.output_pool(x.reshape(-1))))))


def test_the_vectorised_stages_say_what_each_variable_by_itself_says() -> None:
    model, batch = model_of(head={"kind": "regression"}), windows(None)
    prediction, _ = heard(model, batch)
    alone = [stage_by_stage(model, *window) for window in zip(batch.values, batch.calendar, strict=True)]
    torch.testing.assert_close(prediction, torch.cat(alone))


def test_a_variable_is_read_along_time_by_itself_and_beside_the_others_after() -> None:
    model, seen = model_of(), []
    model.variable_blocks.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = windows(None)
    moved = batch.values + torch.sin(torch.arange(T))[:, None] * torch.tensor([0.0, 1.0, 0.0])
    before, after = (heard(model, dataclasses.replace(batch, values=x))[0] for x in (batch.values, moved))
    same = torch.isclose(*seen).all(dim=2).all(dim=0)
    assert same.tolist() == [True, False, True]
    assert not torch.isclose(before, after).any()


@every_option
def test_nothing_that_padding_holds_reaches_an_output_or_a_gradient(options: dict[str, Any]) -> None:
    model, found = model_of(**options), []
    for padding, code in ((0.0, 0), (1e9, -5), (float("nan"), 400), (float("inf"), 6)):
        batch = windows(padding=padding, code=code)
        batch.values.requires_grad_()
        found.append([*heard(model, batch), *gradients(model, batch), batch.values.grad])
        assert not batch.values.grad[~MASK].any()
    assert all(x.isfinite().all() for x in found[0])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@every_option
def test_every_real_bar_is_heard_by_its_values_and_by_its_calendar(options: dict[str, Any]) -> None:
    model, batch = model_of(**options), windows()
    prediction, _ = heard(model, batch)
    for bar in range(T):
        at = (torch.arange(T) == bar)[:, None]
        moved = (batch.values + 0.5 * at * torch.arange(1, V + 1), batch.calendar + at.long())
        for change in ({"values": moved[0]}, {"calendar": moved[1]}):
            other, _ = heard(model, dataclasses.replace(batch, **change))
            changed = (other - prediction).flatten(1).abs().amax(dim=1) > 1e-9
            alone = (MASK.sum(dim=1) == 1) & torch.tensor("values" in change and "forecast" not in options)
            expected = MASK[:, bar] & ~alone | (changed & alone)  # one bar has no scale
            assert changed.tolist() == expected.tolist(), (bar, *change)


@every_option
def test_a_mask_without_padding_says_what_no_mask_says(options: dict[str, Any]) -> None:
    model = model_of(**options)
    masked = heard(model, windows(torch.ones(B, T, dtype=torch.bool)))
    torch.testing.assert_close(masked, heard(model, windows(None)), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("session_bars", "n_real"), [(288, 288), (288, 150), (276, 276), (276, 131), (78, 78), (78, 42), (78, 1)]
)
def test_a_short_session_in_a_long_window_is_read_as_its_bars_alone(session_bars: int, n_real: int) -> None:
    """Sessions of a whole day, of CME and of NYSE; half days end early, and a window may just have begun."""
    options = {"session_bars": session_bars, "d_model": 8, "n_heads": 2, "head": QUANTILES}
    long = model_of(context_length=session_bars, **options)
    short = model_of(context_length=n_real, **options)
    short.load_state_dict(long.state_dict())
    mask = (torch.arange(session_bars) >= session_bars - n_real).expand(2, -1)
    batch = windows(mask, n_bars=session_bars)
    fields = {name: getattr(batch, name)[:, session_bars - n_real :] for name in ("values", "calendar")}
    alone = heard(short, Batch(**fields))
    torch.testing.assert_close(heard(long, batch), alone, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(heard(long.train(), batch), alone, rtol=1e-9, atol=1e-9)


@every_option
def test_a_bucket_of_like_length_trains_as_its_padded_windows_would(options: dict[str, Any]) -> None:
    model = model_of(**options)
    mask = (torch.arange(T) >= torch.tensor([9, 9, 12, 9, 15])[:, None]).clone()
    for batch in (windows(mask), windows(mask[:2])):
        plain = gradients(model.eval(), batch)
        for bucketed, padded in zip(gradients(model.train(), batch), plain, strict=True):
            torch.testing.assert_close(bucketed, padded, rtol=1e-9, atol=1e-9)


def test_attention_is_handed_no_mask_and_no_padding_where_a_bucket_is_full() -> None:
    model, seen = model_of().train(), []
    model.blocks[0].attention.register_forward_pre_hook(
        lambda _, given, named: seen.append((given[0].shape[1], named["mask"] is None)), with_kwargs=True
    )
    full, uneven = torch.arange(T).expand(4, T) >= 9, torch.arange(T) >= torch.tensor([[9], [12]])
    for batch in (windows(None), windows(full), windows(uneven), windows(full & False)):
        heard(model, batch)
    heard(model.eval(), windows(full))
    assert seen == [(T, True), (T - 9, True), (T - 9, False), (T, False), (T, False)]


@every_option
def test_a_window_of_padding_alone_has_a_finite_output_and_gradient(options: dict[str, Any]) -> None:
    model, mask = model_of(**options), MASK.clone()
    mask[2] = False
    batch = windows(mask, padding=float("nan"))
    batch.values.requires_grad_()
    prediction, embedding = heard(model, batch)
    assert all(x.isfinite().all() for x in (prediction, embedding, *gradients(model, batch)))
    assert batch.values.grad.isfinite().all()
    others = torch.tensor([0, 1, 3, 4])
    torch.testing.assert_close(prediction[others], heard(model, windows())[0][others])


def test_a_forecast_follows_the_level_and_scale_of_the_real_bars_alone() -> None:
    model, batch = model_of(head=FORECAST), windows()
    values, scale = 1e3 * batch.values, torch.tensor([2.0, 30.0, 0.5], dtype=torch.float64)
    before, _ = heard(model, dataclasses.replace(batch, values=values))
    after, _ = heard(model, dataclasses.replace(batch, values=values * scale - 70))
    several, columns = MASK.sum(dim=1) > 1, list(FORECAST.columns or ())  # one bar has no scale
    torch.testing.assert_close(after[several], (before * scale[columns] - 70)[several], rtol=1e-6, atol=1e-3)


def test_the_normalisation_of_inputs_is_undone_exactly_over_real_bars() -> None:
    model, batch = model_of(), windows(padding=7.0)
    normed, moments = model.instance_norm(batch.values, batch.mask)
    back = model.instance_norm.inverse(normed, moments, range(V))
    torch.testing.assert_close(back[MASK], batch.values[MASK], rtol=1e-12, atol=1e-12)
    real = [window[mask] for window, mask in zip(batch.values, MASK, strict=True)]
    torch.testing.assert_close(moments.mean[:, 0], torch.stack([x.mean(0) for x in real]))


NUMBERS = st.floats(-1e4, 1e4, width=32)


@settings(max_examples=100, deadline=None)
@given(
    numbers=st.tuples(*[NUMBERS] * 8),
    seed=st.integers(0, 2**31 - 1),
    middle=st.sampled_from([(0.5,), (0.1, 0.9), (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)]),
)
def test_quantiles_never_cross_whatever_the_window_and_the_weights(
    numbers: tuple[float, ...], seed: int, middle: tuple[float, ...]
) -> None:
    """Ten thousand windows: a hundred for each draw, of any scale, through weights of any size."""
    model = build_model(
        config_of(head={"kind": "quantiles", "horizons": (1, 5), "levels": middle}),
        **{"n_features": V, "context_length": 4},
        seed=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    scales = torch.tensor(numbers[1:4]) * torch.randn(100, 1, V, generator=generator)
    values = numbers[0] + scales * torch.randn(100, 4, V, generator=generator)
    with torch.no_grad():
        model.head.weight *= numbers[4]
        model.head.bias += numbers[5] * torch.randn(model.head.bias.shape, generator=generator)
        quantiles, _ = heard(model, Batch(values=values, calendar=calendar_of(100, 4)))
    assert quantiles.isfinite().all()
    assert (quantiles.diff(dim=2) >= 0).all()


@pytest.mark.parametrize("n_layers", [1, 4, 9])
def test_gates_start_so_that_the_first_tokens_are_heard_behind_any_depth(n_layers: int) -> None:
    model = build_model(config_of(n_layers=n_layers), n_features=V, context_length=T, seed=1)
    gates = [block.gate for block in (*model.blocks, *model.variable_blocks)]
    n_blocks = n_layers + max(1, n_layers // 2)
    assert len(gates) == n_blocks
    kept = math.prod(1 - gate.linear.bias.sigmoid().mean().item() for gate in gates)
    assert kept == pytest.approx((1 - 1 / (n_blocks + 1)) ** n_blocks)
    assert kept > math.exp(-1)
