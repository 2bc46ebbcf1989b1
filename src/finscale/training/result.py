"""What a training leaves behind, written from what ran. No torch."""

from typing import Literal

from finscale.archgrid.batching import BatchConfig
from finscale.core.config import Record

__all__ = ["EpochRecord", "Executed", "Flag", "Outcome", "TrainingResult"]

Outcome = Literal["complete", "diverged", "stopped"]
Flag = Literal["capped", "collapsed", "constant", "suspicious_skill"]


class EpochRecord(Record):
    """One epoch (from 1): the task's losses, the rate of its last step, spread of probabilities, timing."""

    epoch: int
    step: int
    train_loss: float
    val_loss: float
    learning_rate: float
    spread: float | None
    seconds: float
    samples_per_s: float


class Executed(Record):
    """Training parameters read back from the optimizer, the modules and the device.

    Parameters
    ----------
    learning_rate_max, learning_rate_last : float
        Largest and last rate found in the optimizer's groups; 0 before the first step.
    weight_decay, n_decayed, n_undecayed
        Of the decaying group, and how many weights are in it and outside it.
    dropout : float
        Largest rate among the model's dropout layers.
    warmup_steps, total_steps, steps_per_epoch : int
        Of the schedule, after clipping.
    """

    optimizer: str
    fused: bool
    learning_rate_max: float
    learning_rate_last: float
    weight_decay: float
    n_decayed: int
    n_undecayed: int
    dropout: float
    warmup_steps: int
    total_steps: int
    steps_per_epoch: int
    precision: str
    compile: str
    n_threads: int


class TrainingResult(Record):
    """The outcome of one run.

    Parameters
    ----------
    outcome : {"complete", "diverged", "stopped"}
        ``stopped`` was asked to stop and can be resumed; ``complete`` includes early stopping and caps.
    best_val_loss, best_epoch : float, int or None
        The task's own loss (`finscale.training.losses`) on ``val_select`` at the best epoch, whose weights
        are kept; None before one epoch ended.
    base_rate_loss : float
        The same loss, on the same rows, of what needs no model: the training base rate of a binary task,
        the training climatology of every other.
    stopped_epoch, n_steps : int
        Epochs ended (a capped last one included) and optimizer updates made.
    n_params : int
        ``numel`` of the built model.
    batch : BatchConfig or None
        Micro-batch, accumulation and effective batch of the largest group of a step; None when no step ran.
    spread, calibration_slope : float or None
        Of the best epoch on ``val_select`` (see `finscale.training.monitor`); None unless binary.
    seconds, peak_memory_bytes
        Wall time over all sessions of the run; peak of this session (whole process on a CPU).
    """

    outcome: Outcome
    fingerprint: str
    best_val_loss: float | None
    best_epoch: int | None
    base_rate_loss: float
    stopped_epoch: int
    n_steps: int
    n_params: int
    batch: BatchConfig | None
    executed: Executed
    spread: float | None
    calibration_slope: float | None
    seconds: float
    peak_memory_bytes: int
    device: str
    curve: tuple[EpochRecord, ...]
    flags: tuple[Flag, ...]
