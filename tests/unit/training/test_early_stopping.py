from typing import Any

from finscale.training.config import TrainingConfig
from finscale.training.early_stopping import EarlyStopping


def _training(**changes: Any) -> TrainingConfig:
    fields = {"learning_rate": 1, "epochs": 9, "weight_decay": 0, "warmup_steps": 0, "min_delta": 0.01}
    return TrainingConfig.read({**fields, **changes})


def _after(losses: list[float], **changes: Any) -> EarlyStopping:
    state, training = EarlyStopping(), _training(**changes)
    for epoch, loss in enumerate(losses, start=1):
        state = state.after(loss, epoch=epoch, training=training)
    return state


def test_best_is_the_first_epoch_with_the_lowest_loss_even_by_less_than_min_delta() -> None:
    state = _after([0.70, 0.60, 0.599, 0.599, 0.65])
    assert (state.best_loss, state.best_epoch) == (0.599, 3)


def test_gains_within_min_delta_cost_patience() -> None:
    assert _after([0.70, 0.695, 0.692]).n_bad_epochs == 2


def test_small_gains_add_up_to_progress() -> None:
    state = _after([0.700, 0.694, 0.688])
    assert state.n_bad_epochs == 0
    assert state.reference == 0.688


def test_patience_runs_out_after_so_many_epochs_without_progress() -> None:
    training = _training(patience=2)
    assert not _after([0.7, 0.71]).exhausted(training)
    assert _after([0.7, 0.71, 0.72]).exhausted(training)


def test_a_relative_margin_is_a_share_of_the_loss_to_undercut() -> None:
    losses = [40.0, 39.7, 39.5]
    assert [_after(losses[:n], min_delta_mode="relative").n_bad_epochs for n in (1, 2, 3)] == [0, 1, 0]
    assert _after(losses).n_bad_epochs == 0
    assert _after([0.040, 0.0395], min_delta_mode="relative").n_bad_epochs == 0
    assert _after([0.040, 0.0395]).n_bad_epochs == 1


def test_a_relative_margin_of_a_negative_loss_still_asks_for_less() -> None:
    assert _after([-1.0, -1.005], min_delta_mode="relative").n_bad_epochs == 1
    assert _after([-1.0, -1.02], min_delta_mode="relative").n_bad_epochs == 0
