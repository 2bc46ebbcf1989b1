import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finscale.models.config import PatchTSTConfig
from finscale.models.contract import Batch
from finscale.models.registry import build_model
from finscale.training.gradients import accumulate_gradients

N_WINDOWS = 37


class _DoubleWindows:
    """Random float64 windows, so that the order of additions is the only difference."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(3)
        self._values = torch.randn(N_WINDOWS, 8, 3, generator=random, dtype=torch.float64)
        self._targets = torch.rand(N_WINDOWS, generator=random, dtype=torch.float64).round()

    def gather(self, origins: torch.Tensor) -> Batch:
        return Batch(values=self._values[origins])

    def targets(self, origins: torch.Tensor) -> torch.Tensor:
        return self._targets[origins]


CONFIG = PatchTSTConfig(d_model=8, n_layers=2, n_heads=2, d_ff=16, patch_length=4, stride=2, dropout=0.0)
MODEL = build_model(CONFIG, n_features=3, context_length=8, seed=0).double().train()
WINDOWS = _DoubleWindows()


def _gradient(n_group: int, micro_batch_size: int) -> tuple[float, torch.Tensor]:
    MODEL.zero_grad()
    origins = torch.arange(n_group)
    loss_sum = accumulate_gradients(MODEL, WINDOWS, origins, micro_batch_size=micro_batch_size)
    return float(loss_sum), torch.cat([weights.grad.flatten() for weights in MODEL.parameters()])


@settings(max_examples=40, deadline=None)
@given(n_group=st.integers(1, N_WINDOWS), micro_batch_size=st.integers(1, N_WINDOWS))
def test_any_split_into_micro_batches_gives_the_gradient_of_the_whole_group(
    n_group: int, micro_batch_size: int
) -> None:
    loss_sum, gradient = _gradient(n_group, micro_batch_size)
    whole_loss, whole = _gradient(n_group, N_WINDOWS)
    assert abs(loss_sum - whole_loss) <= 1e-9 * whole_loss
    assert (gradient - whole).norm() <= 1e-6 * whole.norm()


def test_the_gradient_is_that_of_the_mean_loss_per_window() -> None:
    loss_sum, gradient = _gradient(20, 7)
    MODEL.zero_grad()
    logits = MODEL(WINDOWS.gather(torch.arange(20))).prediction["logits"][:, 0]
    y = WINDOWS.targets(torch.arange(20))
    losses = -(y * torch.sigmoid(logits).log() + (1 - y) * torch.sigmoid(-logits).log())
    losses.mean().backward()
    plain = torch.cat([weights.grad.flatten() for weights in MODEL.parameters()])
    torch.testing.assert_close(torch.tensor(loss_sum, dtype=torch.float64), losses.sum().detach())
    torch.testing.assert_close(gradient, plain)
