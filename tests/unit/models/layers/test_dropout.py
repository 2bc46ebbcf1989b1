"""Dropout zeroes the stated share, keeps the mean, and passes gradients where it passed numbers."""

import pytest
import torch

from finscale.models.layers.dropout import Dropout, dropout_layer


@pytest.fixture(autouse=True)
def _own_random_state() -> object:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("probability", [0.1, 0.15, 0.5, 0.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_share_of_zeros_is_the_probability_and_the_mean_is_kept(
    probability: float, dtype: torch.dtype
) -> None:
    out = Dropout(probability)(torch.ones(4_000_001, dtype=dtype))
    assert out.dtype == dtype
    spread = (probability * (1 - probability) / out.numel()) ** 0.5
    assert (out == 0).double().mean().item() == pytest.approx(probability, abs=5 * spread + 2**-17)
    assert out.double().mean().item() == pytest.approx(1, abs=6 * spread / (1 - probability))
    assert out.unique().numel() == 2


def test_the_four_numbers_of_a_draw_are_independent() -> None:
    lanes = (Dropout(0.3)(torch.ones(400_000, 4)) > 0).double()
    assert lanes.mean(dim=0).tolist() == pytest.approx([0.7] * 4, abs=0.004)
    off_diagonal = torch.corrcoef(lanes.T) - torch.eye(4)
    assert off_diagonal.abs().max().item() < 0.01


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 0, 4), (7, 11, 13)])
def test_every_shape_keeps_its_shape(shape: tuple[int, ...]) -> None:
    assert Dropout(0.4)(torch.ones(shape)).shape == shape


def test_the_same_seed_draws_the_same_mask_and_the_next_call_another() -> None:
    x, dropout = torch.ones(64, 64), Dropout(0.5)
    torch.manual_seed(7)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(7)
    assert torch.equal(first, dropout(x))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("branch_type", [torch.float32, torch.bfloat16])
def test_added_is_the_sum_with_the_dropped_branch_and_so_are_its_gradients(branch_type: torch.dtype) -> None:
    x = torch.randn(8, 9, requires_grad=True)
    branch = torch.randn(8, 9).to(branch_type).requires_grad_()
    dropout = Dropout(0.25)
    torch.manual_seed(1)
    mask = dropout(torch.ones_like(branch))
    torch.manual_seed(1)
    out = dropout.added(x, branch)
    torch.testing.assert_close(out, x + branch * mask)
    gradients = torch.autograd.grad(out.sum(), (x, branch))
    assert torch.equal(gradients[0], torch.ones_like(x))
    assert torch.equal(gradients[1], mask)


def test_evaluation_drops_nothing_and_draws_nothing() -> None:
    x, before = torch.randn(5, 5), torch.get_rng_state()
    for dropout in (Dropout(0.5).eval(), Dropout(0.0)):
        assert torch.equal(dropout(x), x)
        assert torch.equal(dropout.added(x, x), x + x)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_probability_needs_no_layer() -> None:
    assert isinstance(dropout_layer(0.0), torch.nn.Identity)
    assert isinstance(dropout_layer(0.1), Dropout)
