import math

import pytest

from finscale.training.config import TrainingConfig
from finscale.training.schedules import learning_rate_at, warmup_steps_used


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
