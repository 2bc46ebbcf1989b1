from collections.abc import Callable

import pytest
import torch

from finscale.models.registry import build_model
from finscale.training.optimizers import build_optimizer, decayed_names
from finscale.training.run_spec import RunSpec
from finscale.windows.data import WindowData


@pytest.fixture
def model(make_data: Callable[..., WindowData], make_spec: Callable[..., RunSpec]) -> torch.nn.Module:
    spec = make_spec(make_data(), pooling="cls")
    return build_model(spec.model, n_features=3, context_length=8, seed=0)


def test_weight_matrices_decay_and_norms_biases_tokens_and_positions_do_not(model: torch.nn.Module) -> None:
    linear = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert decayed_names(model) == linear
    assert {"positions.table", "class_token.token"} <= dict(model.named_parameters()).keys() - linear


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_without_gradient_adamw_shrinks_the_decaying_group_alone(
    name: str,
    model: torch.nn.Module,
    make_data: Callable[..., WindowData],
    make_spec: Callable[..., RunSpec],
) -> None:
    spec = make_spec(make_data(), optimizer=name, learning_rate=0.1, weight_decay=0.5)
    optimizer = build_optimizer(model, spec.training)
    before = {key: weights.detach().clone() for key, weights in model.named_parameters()}
    for weights in model.parameters():
        weights.grad = torch.zeros_like(weights)
    optimizer.step()
    for key, weights in model.named_parameters():
        if key not in decayed_names(model):
            assert torch.equal(weights, before[key]), key
        elif name == "adamw":
            torch.testing.assert_close(weights, before[key] * (1 - 0.1 * 0.5))
        else:
            torch.testing.assert_close(weights, before[key] - 0.1 * before[key].sign(), atol=1e-3, rtol=0)
