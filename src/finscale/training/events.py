"""What a run tells its listeners. The loop knows no listener: the shell decides where events go."""

from dataclasses import dataclass

__all__ = [
    "CheckpointRejected",
    "CheckpointSaved",
    "EpochEnd",
    "Event",
    "Finished",
    "Resumed",
    "Started",
    "ignore",
]


@dataclass(frozen=True)
class Started:
    """The model is built; training begins (or goes on, see `Resumed`)."""

    n_params: int
    n_train_windows: int
    epochs: int
    steps_per_epoch: int
    total_steps: int
    device: str


@dataclass(frozen=True)
class Resumed:
    """A checkpoint of this run was loaded."""

    path: str
    step: int
    epochs_done: int


@dataclass(frozen=True)
class CheckpointRejected:
    """A checkpoint is truncated or corrupt; an older one, or none, is used."""

    path: str
    reason: str


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is on disk."""

    path: str
    step: int


@dataclass(frozen=True)
class EpochEnd:
    """One pass over the training windows and its validation.

    Losses are those of the task (`finscale.training.losses`) on ``train`` (with dropout) and ``val_select``;
    ``spread`` is the standard deviation of the probabilities on ``val_select``, None unless the task is
    binary; ``mfu`` the share of the device's peak (`finscale.training.peak_flops`), None where that is not
    known; epochs count from 1.
    """

    epoch: int
    epochs: int
    step: int
    train_loss: float
    val_loss: float
    best_val_loss: float
    best_epoch: int
    spread: float | None
    learning_rate: float
    samples_per_s: float
    mfu: float | None
    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Finished:
    """The run ended: ``outcome`` is complete, diverged or stopped."""

    outcome: str
    best_val_loss: float | None
    best_epoch: int | None
    n_steps: int
    seconds: float


Event = Started | Resumed | CheckpointRejected | CheckpointSaved | EpochEnd | Finished


def ignore(event: Event) -> None:
    """Listen to nothing."""
