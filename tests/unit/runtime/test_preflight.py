"""What cannot be trained is known before anything is computed."""

from typing import Any

import pytest

from finscale.core.errors import FinscaleError
from finscale.models.config import parse_model_config
from finscale.runtime.preflight import require_trainable
from finscale.windows.experiment import ExperimentConfig

SHAPE = {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 16}
MODELS: dict[str, dict[str, Any]] = {
    "patchtst": {"family": "patchtst", **SHAPE},
    "patchtst of batch_norm": {"family": "patchtst", "norm": "batch_norm", **SHAPE},
    "transformer": {"family": "transformer", **SHAPE},
    "dlinear": {"family": "dlinear"},
    "naive": {"family": "naive", "head": {"kind": "forecast", "horizon": 1, "n_channels": 1}},
}
READ_MASKS = {"patchtst", "transformer"}


def task_of(model: str, **data: Any) -> str:
    asked = {"task": "direction", "context_length": 20, **data}
    return require_trainable(
        ExperimentConfig(name="asked", title="t", data=asked), parse_model_config(MODELS[model])
    )


@pytest.mark.parametrize("model", MODELS)
def test_short_contexts_are_refused_for_exactly_the_models_that_read_no_masks(model: str) -> None:
    assert task_of(model) == "direction"
    assert task_of(model, min_context_length=20) == "direction"
    if model in READ_MASKS:
        assert task_of(model, min_context_length=5) == "direction"
        return
    family = model.partition(" ")[0]
    with pytest.raises(FinscaleError, match=rf"must be null to train this {family}, .*got 5"):
        task_of(model, min_context_length=5)


def test_everything_that_stands_in_the_way_is_said_at_once() -> None:
    with pytest.raises(FinscaleError) as raised:
        task_of("dlinear", min_context_length=5, split={"val_select_fraction": 1})
    for name in ("data.min_context_length", "data.split.val_select_fraction"):
        assert f"{name} must" in str(raised.value)
