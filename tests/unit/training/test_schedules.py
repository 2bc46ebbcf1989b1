import math

import pytest
import torch

from finscale.training.config import TrainingConfig
from finscale.training.schedules import learning_rate_at, schedule_used, warmup_steps_used


def _rates(total_steps: int, **changes: object) -> list[float]:
    values = {"learning_rate": 0.8, "epochs": 1, "weight_decay": 0.0, "warmup_steps": 4, **changes}
    training = TrainingConfig.read(values)
    return [learning_rate_at(step, training=training, total_steps=total_steps) for step in range(total_steps)]


def test_warm_up_rises_linearly_to_the_peak() -> None:
    assert _rates(20)[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_cosine_falls_from_the_peak_to_almost_zero_on_the_published_curve() -> None:
    rates = _rates(20)
    assert rates[4:] == pytest.approx([0.4 * (1 + math.cos(math.pi * k / 16)) for k in range(16)])
    assert rates[12] == pytest.approx(0.4)
    assert 0 < rates[-1] < 0.01


def test_constant_schedule_stays_at_the_peak_after_warm_up() -> None:
    assert _rates(8, schedule="constant") == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8])


def test_a_warm_up_longer_than_the_schedule_is_clipped_below_it() -> None:
    assert warmup_steps_used(500, 20) == 19
    assert _rates(5, warmup_steps=500) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert _rates(5, warmup_steps=0)[0] == 0.8


def test_linear_falls_from_the_peak_towards_zero_in_equal_steps() -> None:
    assert _rates(8, schedule="linear")[4:] == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_exponential_is_flat_then_falls_by_one_factor_between_epochs_and_never_inside_one() -> None:
    changes = {"schedule": "exponential", "decay_per_epoch": 0.5, "epochs": 4, "warmup_steps": 0}
    assert _rates(8, **changes) == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1])
    flat = _rates(8, **changes, flat_epochs=3)
    assert flat == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.4, 0.4])


def test_a_warm_up_with_a_factor_stays_at_it() -> None:
    rates = _rates(8, schedule="constant", warmup_factor=0.04)
    assert rates == pytest.approx([0.032] * 4 + [0.8] * 4)


def test_the_published_schedule_of_etth1_is_written_out() -> None:
    """Nie et al. 2023: 1/25 of 1e-4 in epoch 1, 1e-4 to epoch 4, then times 0.9 an epoch."""
    n_steps = 65
    rates = _rates(
        36 * n_steps,
        learning_rate=1e-4,
        epochs=36,
        warmup_steps=n_steps,
        warmup_factor=1 / 25,
        schedule="exponential",
        decay_per_epoch=0.9,
        flat_epochs=4,
    )
    by_epoch = [rates[start : start + n_steps] for start in range(0, len(rates), n_steps)]
    assert all(len(set(epoch)) == 1 for epoch in by_epoch)
    table = [4e-6, 1e-4, 1e-4, 1e-4, 9e-5, 8.1e-5, 7.29e-5, 6.561e-5, 5.9049e-5]
    assert [epoch[0] for epoch in by_epoch[:9]] == pytest.approx(table)
    assert by_epoch[35][0] == pytest.approx(1e-4 * 0.9**32)


@pytest.mark.parametrize(("total", "warmup"), [(50, 15), (7, 2), (200, 199)])
def test_one_cycle_is_that_of_torch_with_the_warm_up_as_its_rising_share(total: int, warmup: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.8, total_steps=total, pct_start=warmup / total, cycle_momentum=False
    )
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < total:
            oracle.step()
    found = _rates(total, schedule="onecycle", warmup_steps=warmup)
    assert found == pytest.approx(expected, abs=1e-12, rel=0)
    assert max(found) == found[warmup - 1] == 0.8


@pytest.mark.parametrize("total", [1, 2, 3])
def test_one_cycle_of_a_schedule_shorter_than_its_warm_up_has_rates_in_range(total: int) -> None:
    assert all(0 < rate <= 0.8 for rate in _rates(total, schedule="onecycle", warmup_steps=9))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "cosine after a linear warm-up"),
        ({"schedule": "linear", "warmup_factor": 0.1}, "linear after a constant warm-up"),
        ({"warmup_steps": 0}, "cosine"),
        ({"schedule": "onecycle"}, "onecycle"),
    ],
)
def test_a_schedule_is_named_with_the_warm_up_it_has(changes: dict[str, object], said: str) -> None:
    values = {"learning_rate": 0.8, "epochs": 1, "weight_decay": 0.0, "warmup_steps": 4, **changes}
    assert schedule_used(TrainingConfig.read(values), total_steps=20) == said


def test_a_warm_up_that_a_schedule_of_one_step_leaves_no_room_for_is_not_named() -> None:
    values = {"learning_rate": 0.8, "epochs": 1, "weight_decay": 0.0, "warmup_steps": 4}
    assert schedule_used(TrainingConfig.read(values), total_steps=1) == "cosine"
