from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from finscale.models.config import PatchTSTConfig
from finscale.models.contract import Batch, ModelOutput
from finscale.models.registry import build_model
from finscale.training.config import SharedTraining
from finscale.training.gradients import accumulate_gradients
from finscale.training.losses import build_loss
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import TaskKind, parse_task

N_WINDOWS, CONTEXT, N_FEATURES, N_STEPS = 37, 8, 3, 4
LEVELS, HORIZONS = (0.1, 0.5, 0.9), (1, N_STEPS)
N_CLASSES = (2, 3)


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


def _window_spec(task: str) -> WindowSpec:
    return WindowSpec(
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
        target_columns={"forecast": ("a", "b", "c"), "classes": ("b", "c")}.get(task, ()),
        n_classes=N_CLASSES if task == "classes" else (),
    )


def _case(task: str, model: nn.Module, *shape: int, **options: Any) -> _Case:
    random = torch.Generator().manual_seed(4)
    targets = torch.rand((N_WINDOWS, *shape), generator=random, dtype=torch.float64)
    if task in ("direction", "classes"):
        targets = (targets * torch.tensor(N_CLASSES if task == "classes" else 2)).floor()
    targets = targets.long() if task == "classes" else targets
    training = SharedTraining.read(options)
    loss = build_loss(training, _window_spec(task), train_targets=targets.numpy(), device=torch.device("cpu"))
    settings, windows = {"kind": parse_task(task).kind, "loss": loss}, _DoubleWindows(targets)
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
    "classes": _case("classes", _Linear("classes", (sum(N_CLASSES),)), len(N_CLASSES)),
}
FORECAST: tuple[Any, ...] = (
    _Linear("forecast", (N_STEPS, N_FEATURES)),
    *(N_STEPS, N_FEATURES),
)
WEIGHED = {
    "smoothed": _case("direction", _patchtst(), class_weights="balanced", label_smoothing=0.1),
    "focal": _case("direction", _patchtst(), class_weights=(1.0, 3.0), focal_gamma=2.0),
    "huber": _case("forecast", *FORECAST, loss="huber", huber_delta=0.3, loss_weights=(1, 2, 3)),
    "quantiles": _case("quantile", _Linear("quantiles", (2, 3)), 2, loss_weights=(1, 4)),
    "labels": _case(
        "classes",
        _Linear("classes", (sum(N_CLASSES),)),
        len(N_CLASSES),
        loss_weights=(1, 3),
        class_weights="balanced",
    ),
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
    _assert_whole(CASES[kind], n_group, micro_batch_size)


@pytest.mark.parametrize("options", WEIGHED)
@pytest.mark.parametrize(("n_group", "micro_batch_size"), [(37, 8), (20, 1), (7, 5)])
def test_weights_smoothing_and_other_losses_add_up_over_micro_batches_too(
    options: str, n_group: int, micro_batch_size: int
) -> None:
    _assert_whole(WEIGHED[options], n_group, micro_batch_size)


def test_a_scaled_loss_scales_the_gradient_and_is_returned_plain() -> None:
    case = CASES["binary"]
    plain_sum, plain = _gradient(case, 20, 7)
    enlarged = case._replace(settings={**case.settings, "scale": lambda loss: 1024 * loss})
    scaled_sum, scaled = _gradient(enlarged, 20, 7)
    assert scaled_sum == plain_sum
    assert torch.equal(scaled, 1024 * plain)


def _assert_whole(case: _Case, n_group: int, micro_batch_size: int) -> None:
    loss_sum, gradient = _gradient(case, n_group, micro_batch_size)
    whole_loss, whole = _gradient(case, n_group, N_WINDOWS)
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
    if kind == "classes":
        columns = enumerate(said["classes"].split(N_CLASSES, dim=1))
        chosen = [torch.softmax(z, dim=1)[torch.arange(len(y)), y[:, k]] for k, z in columns]
        return -torch.stack(chosen).log().mean()
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
