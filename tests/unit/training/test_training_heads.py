from typing import Any

import pytest

from finscale.models.config import DLinearConfig, PatchTSTConfig
from finscale.models.head_config import (
    ClassesHead,
    ForecastHead,
    HeadConfig,
    LogitsHead,
    QuantileHead,
    RegressionHead,
)
from finscale.training.heads import head_fault, head_for
from finscale.windows.spec import WindowSpec


def _spec(task: str, **changes: Any) -> WindowSpec:
    return WindowSpec(
        experiment="tiny",
        task=task,
        touch="high",
        horizon=5,
        context_length=8,
        features=("a", "b", "c"),
        data_hash="none",
        title="No windows",
        **changes,
    )


QUANTILES = {"horizons": (1, 5), "quantile_levels": (0.1, 0.9)}


@pytest.mark.parametrize(
    ("spec", "head"),
    [
        (_spec("direction"), LogitsHead()),
        (_spec("threshold_2pct"), LogitsHead()),
        (_spec("regression"), RegressionHead()),
        (_spec("classes", target_columns=("x", "y"), n_classes=(4, 2)), ClassesHead(n_classes=(4, 2))),
        (_spec("quantile", **QUANTILES), QuantileHead(horizons=(1, 5), levels=(0.1, 0.9))),
        (_spec("forecast", target_columns=("a", "b", "c")), ForecastHead(horizon=5, n_channels=3)),
        (
            _spec("forecast", target_columns=("c", "a")),
            ForecastHead(horizon=5, n_channels=2, columns=(2, 0)),
        ),
    ],
)
def test_the_head_of_a_task_has_the_shape_of_its_targets(spec: WindowSpec, head: HeadConfig) -> None:
    assert head_for(spec) == head
    assert head_fault(DLinearConfig(head=head), spec) is None


def test_a_head_for_other_targets_is_a_fault_that_shows_both() -> None:
    spec = _spec("quantile", **QUANTILES)
    for head in (LogitsHead(), QuantileHead(horizons=(5,), levels=(0.1, 0.9))):
        fault = head_fault(DLinearConfig(head=head), spec)
        assert str(head_for(spec)) in str(fault)
        assert str(head) in str(fault)


def test_only_a_forecast_tied_to_its_columns_needs_to_name_them() -> None:
    spec = _spec("forecast", target_columns=("c", "a"))
    head = ForecastHead(horizon=5, n_channels=2)
    sizes = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 16, "patch_length": 4, "head": head}
    assert head_fault(PatchTSTConfig(**sizes), spec) is None
    assert head_fault(PatchTSTConfig(**sizes, channels="independent"), spec) is not None
