from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from finscale.models.config import PatchTSTConfig
from finscale.models.contract import Batch, ModelOutput
from finscale.models.registry import build_model
from finscale.training.gradients import accumulate_gradients
from finscale.training.losses import build_loss
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import TaskKind, parse_task

N_WINDOWS, CONTEXT, N_FEATURES, N_STEPS = 37, 8, 3, 4
LEVELS, HORIZONS = (0.1, 0.5, 0.9), (1, N_STEPS)


class _DoubleWindows:
    """Random float64 windows, so that the order of additions is the only difference."""

    def __init__(self, targets: Tensor) -> None:
        random = torch.Generator().manual_seed(3)
        shape = (N_WINDOWS, CONTEXT, N_FEATURES)
        self._values = torch.randn(shape, generator=random, dtype=torch.float64)
        self._targets = targets

    def gather(self, origins: Tensor) -> Batch:
        return Batch(values=self._values[origins])

    def targets(self, origins: Tensor) -> Tensor:
        return self._targets[origins]


class _Linear(nn.Module):
    """One linear map of the last bar, under the name and in the shape of one head."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.name, self.shape = name, shape
        self.map = nn.Linear(N_FEATURES, max(1, torch.Size(shape).numel()))

    def forward(self, batch: Batch) -> ModelOutput:
        last = batch.values[:, -1]
        return ModelOutput(
            prediction={self.name: self.map(last).view(len(last), *self.shape)}, embedding=last
        )


class _Case(NamedTuple):
    model: nn.Module
    windows: _DoubleWindows
    settings: dict[str, Any]


def _case(task: str, model: nn.Module, *shape: int) -> _Case:
    spec = WindowSpec(
        experiment="tiny",
        task=task,
        touch="high",
        horizon=N_STEPS,
        context_length=CONTEXT,
        features=("a", "b", "c"),
        data_hash="random",
        title="Random windows",
        horizons=HORIZONS if task == "quantile" else (N_STEPS,),
        quantile_levels=LEVELS if task == "quantile" else (),
        target_columns=("a", "b", "c") if task == "forecast" else (),
    )
    random = torch.Generator().manual_seed(4)
    targets = torch.rand((N_WINDOWS, *shape), generator=random, dtype=torch.float64)
    settings = {"kind": parse_task(task).kind, "loss": build_loss(spec, torch.device("cpu"))}
    windows = _DoubleWindows(targets.round() if task == "direction" else targets)
    return _Case(model.double().train(), windows, settings)


def _patchtst() -> nn.Module:
    config = PatchTSTConfig(d_model=8, n_layers=2, n_heads=2, d_ff=16, patch_length=4, stride=2, dropout=0.0)
    return build_model(config, n_features=N_FEATURES, context_length=CONTEXT, seed=0)


torch.manual_seed(0)
CASES: dict[TaskKind, _Case] = {
    "binary": _case("direction", _patchtst()),
    "regression": _case("regression", _Linear("regression", ())),
    "quantile": _case("quantile", _Linear("quantiles", (2, 3)), 2),
    "forecast": _case("forecast", _Linear("forecast", (N_STEPS, N_FEATURES)), N_STEPS, N_FEATURES),
}


def _gradient(case: _Case, n_group: int, micro_batch_size: int) -> tuple[float, Tensor]:
    case.model.zero_grad()
    origins = torch.arange(n_group)
    loss_sum = accumulate_gradients(
        case.model, case.windows, origins, micro_batch_size=micro_batch_size, **case.settings
    )
    return float(loss_sum), torch.cat([weights.grad.flatten() for weights in case.model.parameters()])


@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=25, deadline=None)
@given(n_group=st.integers(1, N_WINDOWS), micro_batch_size=st.integers(1, N_WINDOWS))
def test_any_split_into_micro_batches_gives_the_gradient_of_the_whole_group(
    kind: TaskKind, n_group: int, micro_batch_size: int
) -> None:
    loss_sum, gradient = _gradient(CASES[kind], n_group, micro_batch_size)
    whole_loss, whole = _gradient(CASES[kind], n_group, N_WINDOWS)
    assert abs(loss_sum - whole_loss) <= 1e-9 * whole_loss
    assert (gradient - whole).norm() <= 1e-6 * whole.norm()


def _plain_loss(kind: TaskKind, said: dict[str, Tensor], y: Tensor) -> Tensor:
    """The mean loss per window, from its definition."""
    if kind == "binary":
        p = torch.sigmoid(said["logits"][:, 0])
        return -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    if kind == "quantile":
        q, total = said["quantiles"], torch.zeros((), dtype=y.dtype)
        for place, tau in enumerate(LEVELS):
            errors = y - q[..., place]
            total = total + torch.where(errors > 0, tau * errors, (tau - 1) * errors).mean()
        return total / len(LEVELS)
    return (said[kind] - y).square().mean()


@pytest.mark.parametrize("kind", CASES)
def test_the_gradient_is_that_of_the_mean_loss_per_window(kind: TaskKind) -> None:
    case, origins = CASES[kind], torch.arange(20)
    loss_sum, gradient = _gradient(case, 20, 7)
    case.model.zero_grad()
    said = case.model(case.windows.gather(origins)).prediction
    loss = _plain_loss(kind, said, case.windows.targets(origins))
    loss.backward()
    plain = torch.cat([weights.grad.flatten() for weights in case.model.parameters()])
    torch.testing.assert_close(torch.tensor(loss_sum, dtype=torch.float64), 20 * loss.detach())
    torch.testing.assert_close(gradient, plain)
