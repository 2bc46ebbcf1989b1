"""Heads: shapes under their names, quantiles that cannot cross, channels that keep apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from finscale.core.errors import Fault, FinscaleError
from finscale.models.head_config import (
    ClassesHead,
    ForecastHead,
    HeadConfig,
    LogitsHead,
    QuantileHead,
    RegressionHead,
    head_width,
)
from finscale.models.layers.heads import ChannelLinear, as_prediction, channel_map, head_map

B, X = 4, 6
QUANTILES = QuantileHead(horizons=(1, 5, 20), levels=(0.1, 0.3, 0.5, 0.9))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("head", "name", "shape"),
    [
        (LogitsHead(), "logits", (B, 1)),
        (ClassesHead(n_classes=(3, 2)), "classes", (B, 5)),
        (RegressionHead(), "regression", (B,)),
        (QUANTILES, "quantiles", (B, 3, 4)),
        (ForecastHead(horizon=5, n_channels=2), "forecast", (B, 5, 2)),
    ],
)
def test_every_head_answers_under_its_name_and_in_its_shape(
    head: HeadConfig, name: str, shape: tuple[int, ...]
) -> None:
    prediction = as_prediction(head, head_map(head, d_read=X)(normal(B, X)))
    assert {key: tuple(x.shape) for key, x in prediction.items()} == {name: shape}


@settings(max_examples=30, deadline=None)
@given(n_levels=st.integers(1, 7), scale=st.floats(0.01, 20), seed=st.integers(0, 99))
def test_quantiles_never_cross(n_levels: int, scale: float, seed: int) -> None:
    levels = tuple((k + 1) / (n_levels + 1) for k in range(n_levels))
    head = QuantileHead(horizons=(1, 3), levels=levels)
    quantiles = as_prediction(head, scale * normal(B, 2 * n_levels, seed=seed))["quantiles"]
    assert (quantiles.diff(dim=2) >= 0).all()


def test_the_middle_quantile_is_the_number_itself_and_each_further_one_a_softplus_away() -> None:
    head, numbers = QuantileHead(horizons=(1,), levels=(0.1, 0.2, 0.5, 0.8)), normal(B, 4)
    step = torch.log1p(numbers.exp())
    expected = [
        numbers[:, 2] - step[:, 1] - step[:, 0],
        numbers[:, 2] - step[:, 1],
        numbers[:, 2],
        numbers[:, 2] + step[:, 3],
    ]
    torch.testing.assert_close(as_prediction(head, numbers)["quantiles"][:, 0], torch.stack(expected, dim=1))


def test_a_forecast_is_laid_out_step_by_step() -> None:
    forecast = as_prediction(ForecastHead(horizon=2, n_channels=3), torch.arange(6.0)[None])["forecast"]
    assert forecast.tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_a_map_per_channel_is_that_many_linear_maps() -> None:
    layer = ChannelLinear(3, X, 5)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = normal(B, 3, X)
    each = [torch.nn.functional.linear(x[:, c], layer.weight[c], layer.bias[c]) for c in range(3)]
    torch.testing.assert_close(layer(x), torch.stack(each, dim=1))


def test_channels_share_a_map_unless_each_is_to_have_its_own() -> None:
    head = ForecastHead(horizon=5, n_channels=3)
    shared = channel_map(head, d_read=X, individual=False)
    assert isinstance(shared, torch.nn.Linear)
    assert shared.weight.shape == (5, X)
    assert isinstance(channel_map(head, d_read=X, individual=True), ChannelLinear)


def test_classes_are_refused_for_a_head_that_has_none() -> None:
    assert head_width(LogitsHead(), n_outputs=7) == 7
    with pytest.raises(Fault, match=r"n_outputs must be left out under head.kind=regression, got 7"):
        head_width(RegressionHead(), n_outputs=7)
    with pytest.raises(Fault, match=r"n_outputs must be left out under head.kind=classes, got 7"):
        head_width(ClassesHead(n_classes=(7,)), n_outputs=7)


@pytest.mark.parametrize("n_classes", [(), (3, 1), (0,)])
def test_a_column_of_classes_has_two_at_least(n_classes: tuple[int, ...]) -> None:
    with pytest.raises(FinscaleError, match="n_classes"):
        ClassesHead.read({"n_classes": n_classes})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"horizons": (5, 3)}, r"head.horizons must increase, got \(5, 3\)"),
        ({"horizons": (3, 3)}, "head.horizons must increase"),
        ({"horizons": (3,), "levels": (0.5, 0.1)}, "head.levels must increase"),
        ({"horizons": (3,), "levels": (0.5, 1.0)}, "levels.1 must be less than 1"),
        ({"horizons": ()}, "horizons"),
    ],
)
def test_quantiles_out_of_order_or_range_are_refused(
    values: dict[str, tuple[float, ...]], message: str
) -> None:
    with pytest.raises(FinscaleError, match=message):
        QuantileHead.read(values)


def test_the_columns_of_a_forecast_are_different_features_that_exist() -> None:
    head = ForecastHead(horizon=2, n_channels=2, columns=(4, 1))
    assert head.columns_of(5) == (4, 1)
    with pytest.raises(Fault, match=r"head.columns must be below F=4, got \[4, 1\]"):
        head.columns_of(4)
    with pytest.raises(Fault, match=r"head.columns must name n_channels different features"):
        ForecastHead.read({"horizon": 2, "n_channels": 2, "columns": (1, 1)})
    with pytest.raises(Fault, match=r"got columns=\[1\], n_channels=2"):
        ForecastHead.read({"horizon": 2, "n_channels": 2, "columns": (1,)})


def test_a_forecast_without_columns_is_of_every_feature() -> None:
    assert ForecastHead(horizon=2, n_channels=3).columns_of(3) == (0, 1, 2)
    with pytest.raises(
        Fault, match=r"head.n_channels must be F unless head.columns are named, got n_channels=3, F=5"
    ):
        ForecastHead(horizon=2, n_channels=3).columns_of(5)
