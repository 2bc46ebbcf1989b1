"""DLinear against its definition, written out by loops."""

import pytest
import torch
from torch import Tensor

from finscale.core.errors import Fault, FinscaleError
from finscale.models.config import DLinearConfig
from finscale.models.contract import Batch
from finscale.models.dlinear import DLinear
from finscale.models.head_config import ForecastHead, RegressionHead
from finscale.models.layers.decomposition import moving_average
from finscale.models.registry import build_model

B, T, F = 3, 20, 4
SIZES = {"n_features": F, "context_length": T}
FORECAST = ForecastHead(horizon=6, n_channels=F)


def values(seed: int = 0) -> Tensor:
    return torch.randn(B, T, F, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def model_of(**fields: object) -> DLinear:
    config = DLinearConfig.model_validate({"average_bars": 5, **fields})
    model = build_model(config, **SIZES, seed=3).double().eval()
    assert isinstance(model, DLinear)
    return model


@pytest.mark.parametrize("n_bars", [1, 3, 25, 61])
def test_the_moving_average_is_the_mean_around_each_bar_with_repeated_ends(n_bars: int) -> None:
    x, reach = values(), n_bars // 2
    rows = [[min(max(t + k, 0), T - 1) for k in range(-reach, reach + 1)] for t in range(T)]
    expected = torch.stack([x[:, row].mean(dim=1) for row in rows], dim=1)
    torch.testing.assert_close(moving_average(x, n_bars=n_bars), expected)


@pytest.mark.parametrize("individual", [False, True])
def test_a_forecast_is_a_map_of_the_average_plus_a_map_of_the_rest(individual: bool) -> None:
    model, x = model_of(head=FORECAST, individual=individual), values()
    average = moving_average(x, n_bars=5)
    weights = [(m.weight, m.bias) for m in (model.trend, model.remainder)]
    columns = []
    for channel in range(F):
        parts = zip((average, x - average), weights, strict=True)
        picked = [(p, w[channel], b[channel]) if individual else (p, w, b) for p, (w, b) in parts]
        columns.append(sum(part[:, :, channel] @ w.T + b for part, w, b in picked))
    forecast = model(Batch(values=x)).prediction["forecast"]
    torch.testing.assert_close(forecast, torch.stack(columns, dim=2))


def test_a_channel_is_forecast_from_its_own_past_alone() -> None:
    model, x = model_of(head=ForecastHead(horizon=6, n_channels=2, columns=(3, 1))), values()
    other = x.clone()
    other[:, :, 1] += 1.0
    before, after = (model(Batch(values=v)).prediction["forecast"] for v in (x, other))
    assert torch.equal(before[:, :, 0], after[:, :, 0])
    assert (before[:, :, 1] - after[:, :, 1]).abs().min() > 1e-6
    other[:, :, 2] += 1.0
    assert torch.equal(model(Batch(values=other)).prediction["forecast"], after)


def test_any_other_head_reads_every_value_of_the_window() -> None:
    model, x = model_of(head=RegressionHead()), values().requires_grad_()
    model(Batch(values=x)).prediction["regression"].sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


def test_options_without_effect_are_refused() -> None:
    with pytest.raises(Fault, match=r"individual must be left out unless head.kind=forecast"):
        DLinearConfig.read({"individual": True})
    with pytest.raises(Fault, match="average_bars must be odd, to be centred on a bar, got 24"):
        DLinearConfig.read({"average_bars": 24})
    with pytest.raises(FinscaleError, match="did you mean 'individual'"):
        DLinearConfig.read({"indivdual": True})
    with pytest.raises(Fault, match=r"n_outputs must be left out under head.kind=forecast"):
        build_model(DLinearConfig(head=FORECAST), **SIZES, n_outputs=3, seed=0)
