"""The past repeated."""

import pytest
import torch
from torch import Tensor

from finscale.core.errors import Fault, FinscaleError
from finscale.models.config import NaiveConfig
from finscale.models.contract import Batch
from finscale.models.head_config import ForecastHead
from finscale.models.registry import build_model

B, T, F = 2, 12, 3


def forecast(season_bars: int, head: ForecastHead, values: Tensor) -> Tensor:
    config = NaiveConfig(season_bars=season_bars, head=head)
    model = build_model(config, n_features=F, context_length=T, seed=0)
    return model(Batch(values=values)).prediction["forecast"]


def ramp() -> Tensor:
    return torch.arange(float(B * T * F)).reshape(B, T, F)


def test_a_season_of_one_bar_holds_the_last_value() -> None:
    future = forecast(1, ForecastHead(horizon=5, n_channels=F), ramp())
    assert torch.equal(future, ramp()[:, -1:].expand(B, 5, F))


@pytest.mark.parametrize("season_bars", [2, 5, 12])
def test_a_series_with_that_season_is_forecast_exactly(season_bars: int) -> None:
    shape = torch.randn(season_bars, F, generator=torch.Generator().manual_seed(1))
    series = shape.repeat(30, 1)[: T + 30]
    future = forecast(season_bars, ForecastHead(horizon=30, n_channels=F), series[None, :T])
    assert torch.equal(future[0], series[T:])


def test_columns_are_forecast_in_the_order_they_are_named() -> None:
    future = forecast(1, ForecastHead(horizon=2, n_channels=2, columns=(2, 0)), ramp())
    assert torch.equal(future[:, 0], ramp()[:, -1][:, [2, 0]])


def test_a_season_longer_than_the_context_is_refused() -> None:
    with pytest.raises(
        Fault, match="season_bars must fit into the context, got season_bars=13, context_length=12"
    ):
        forecast(13, ForecastHead(horizon=2, n_channels=F), ramp())


def test_a_naive_forecast_has_no_classes_and_no_other_head() -> None:
    config = NaiveConfig(head=ForecastHead(horizon=2, n_channels=F))
    with pytest.raises(Fault, match=r"n_outputs must be left out under head.kind=forecast, got 2"):
        build_model(config, n_features=F, context_length=T, n_outputs=2, seed=0)
    with pytest.raises(FinscaleError, match="head"):
        NaiveConfig.read({"head": {"kind": "regression"}})
