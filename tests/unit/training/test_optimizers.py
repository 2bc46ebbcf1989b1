from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from finscale.models.registry import build_model
from finscale.training.ademamix import AdEMAMix
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


@pytest.mark.parametrize("name", ["adam", "adamw", "ademamix", "sgd"])
def test_without_gradient_only_the_decaying_group_shrinks(
    name: str,
    model: torch.nn.Module,
    make_data: Callable[..., WindowData],
    make_spec: Callable[..., RunSpec],
) -> None:
    spec = make_spec(make_data(), optimizer=name, learning_rate=0.1, weight_decay=0.5)
    optimizer = build_optimizer(model, spec.training, total_steps=10)
    before = {key: weights.detach().clone() for key, weights in model.named_parameters()}
    for weights in model.parameters():
        weights.grad = torch.zeros_like(weights)
    optimizer.step()
    for key, weights in model.named_parameters():
        if key not in decayed_names(model):
            assert torch.equal(weights, before[key]), key
        elif name != "adam":
            torch.testing.assert_close(weights, before[key] * (1 - 0.1 * 0.5))
        else:
            torch.testing.assert_close(weights, before[key] - 0.1 * before[key].sign(), atol=1e-3, rtol=0)


def _ademamix_by_hand(
    weights: NDArray[np.float64],
    gradients: NDArray[np.float64],
    *,
    lr: float,
    decay: float,
    warmup_steps: int,
) -> NDArray[np.float64]:
    """Algorithm 1 and the schedulers of section 3 of Pagliardini et al. 2024, line by line."""
    beta_1, beta_2, beta_3, alpha = 0.8, 0.99, 0.995, 3.0
    fast, slow, square = (np.zeros_like(weights) for _ in range(3))
    for t, g in enumerate(gradients, start=1):
        share = min(t / warmup_steps, 1.0)
        log_1, log_3 = np.log(beta_1), np.log(beta_3)
        beta_now = np.exp(log_1 * log_3 / ((1 - share) * log_3 + share * log_1))
        fast = beta_1 * fast + (1 - beta_1) * g
        slow = beta_now * slow + (1 - beta_now) * g
        square = beta_2 * square + (1 - beta_2) * g**2
        corrected, spread = fast / (1 - beta_1**t), np.sqrt(square / (1 - beta_2**t)) + 1e-8
        weights = weights - lr * ((corrected + share * alpha * slow) / spread + decay * weights)
    return weights


@pytest.mark.parametrize("warmup_steps", [1, 8, 40])
def test_ademamix_is_the_published_recursion_during_and_after_its_warm_up(warmup_steps: int) -> None:
    random = np.random.default_rng(0)
    start, gradients = random.standard_normal((2, 5)), random.standard_normal((20, 2, 5))
    tensors = [torch.nn.Parameter(torch.tensor(row)) for row in start]
    groups = [{"params": tensors[:1], "weight_decay": 0.1}, {"params": tensors[1:], "weight_decay": 0.0}]
    optimizer = AdEMAMix(groups, lr=0.05, betas=(0.8, 0.99, 0.995), alpha=3.0, warmup_steps=warmup_steps)
    for gradient in gradients:
        for tensor, row in zip(tensors, gradient, strict=True):
            tensor.grad = torch.tensor(row)
        optimizer.step()
    for at, decay in enumerate((0.1, 0.0)):
        by_hand = _ademamix_by_hand(
            start[at], gradients[:, at], lr=0.05, decay=decay, warmup_steps=warmup_steps
        )
        np.testing.assert_allclose(tensors[at].detach().numpy(), by_hand, rtol=1e-12, atol=1e-14)


def test_ademamix_counts_the_steps_of_each_parameter_by_itself() -> None:
    """What had no gradient at first then moves as if it had been alone."""
    late, early, alone = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(3))
    both = AdEMAMix([early, late], lr=0.1, warmup_steps=4)
    single = AdEMAMix([alone], lr=0.1, warmup_steps=4)
    early.grad = torch.ones(3, dtype=torch.float64)
    both.step()
    assert torch.equal(late, torch.ones_like(late))
    late.grad, alone.grad = (torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64) for _ in range(2))
    for _ in range(3):
        both.step()
        single.step()
    assert torch.equal(late, alone)


def test_a_slow_average_that_starts_from_no_memory_is_finite() -> None:
    weights = torch.nn.Parameter(torch.ones(2))
    weights.grad = torch.ones(2)
    AdEMAMix([weights], lr=0.1, betas=(0.0, 0.9, 0.99), warmup_steps=5).step()
    assert torch.isfinite(weights).all()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, {"betas": (0.9, 0.999), "fused": True}),
        ({"optimizer": "adam", "betas": (0.8, 0.95)}, {"betas": (0.8, 0.95), "fused": True}),
        (
            {"optimizer": "ademamix"},
            {"betas": (0.9, 0.999, 0.9999), "alpha": 5.0, "warmup_steps": 77},
        ),
        (
            {"optimizer": "ademamix", "betas": (0.8, 0.95), "slow_beta": 0.99, "slow_weight": 2.0},
            {"betas": (0.8, 0.95, 0.99), "alpha": 2.0},
        ),
        ({"optimizer": "sgd"}, {"momentum": 0.0, "nesterov": False, "fused": True}),
        ({"optimizer": "sgd", "momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_every_option_reaches_both_groups(
    asked: dict[str, object],
    found: dict[str, object],
    model: torch.nn.Module,
    make_data: Callable[..., WindowData],
    make_spec: Callable[..., RunSpec],
) -> None:
    optimizer = build_optimizer(model, make_spec(make_data(), **asked).training, total_steps=77)
    for group in optimizer.param_groups:
        assert {name: group[name] for name in found} == found
