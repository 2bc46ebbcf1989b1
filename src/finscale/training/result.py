"""What a training leaves behind, written from what ran. No torch."""

from typing import Literal

from pydantic import AwareDatetime

from finscale.archgrid.batching import BatchConfig
from finscale.core.config import Record

__all__ = ["EpochRecord", "Executed", "Flag", "Outcome", "TrainingResult"]

Outcome = Literal["complete", "diverged", "stopped"]
Flag = Literal["capped", "collapsed", "constant", "suspicious_skill"]


class EpochRecord(Record):
    """One epoch (from 1): losses, the rate of its last step, spread of probabilities, timing.

    ``train_loss`` is of what is trained, weights and smoothing included; ``val_loss`` the task's plain loss;
    ``mfu`` the share of the device's peak, None where that is not known.
    """

    epoch: int
    step: int
    train_loss: float
    val_loss: float
    learning_rate: float
    spread: float | None
    seconds: float
    samples_per_s: float
    mfu: float | None = None


class Executed(Record):
    """Training parameters read back from the optimizer, the modules and the device.

    Parameters
    ----------
    learning_rate_max, learning_rate_last : float
        Largest and last rate found in the optimizer's groups; 0 before the first step.
    betas : tuple of float or None
        Decays of the optimizer's averages; None where it has none.
    momentum, nesterov : float, bool or None
        Of ``SGD``; None for every other.
    schedule : str
        Shape of the rate in words, its warm-up included.
    weight_decay, n_decayed, n_undecayed
        Of the decaying group, and how many weights are in it and outside it.
    dropout : float
        Largest rate among the model's dropout layers.
    warmup_steps, total_steps, steps_per_epoch : int
        Of the schedule, after clipping.
    loss_scale : float or None
        Last factor of the gradient scaler; None where gradients are not scaled.
    compile : str
        ``off`` where it was asked for and left out.
    cuda_graph : bool
        Whether whole steps were recorded and replayed.
    strategy, n_processes : str, int
        How many processes shared every step out, and how; of the last session of the run.
    first_quantiles : tuple of tuple of float or None
        What a quantile head was set to say of every window before its first step, by trained horizon and
        level; None for every other head, and where an older version left the record.
    """

    optimizer: str
    fused: bool
    learning_rate_max: float
    learning_rate_last: float
    betas: tuple[float, ...] | None
    momentum: float | None
    nesterov: bool | None
    weight_decay: float
    n_decayed: int
    n_undecayed: int
    dropout: float
    schedule: str
    warmup_steps: int
    total_steps: int
    steps_per_epoch: int
    precision: str
    loss_scale: float | None
    compile: str
    cuda_graph: bool
    n_threads: int
    strategy: str = "one"
    n_processes: int = 1
    first_quantiles: tuple[tuple[float, ...], ...] | None = None


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
    width_shares, coverages : tuple of float
        Of quantiles, of the same epoch on the same rows, by trained horizon: the mean width of the widest
        interval over that of the training quantiles, and the share of rows it covers; else empty.
    started_at, finished_at : datetime or None
        Begin of the first session and end of the last; None where an older version left the checkpoint.
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
    width_shares: tuple[float, ...] = ()
    coverages: tuple[float, ...] = ()
    started_at: AwareDatetime | None
    finished_at: AwareDatetime
    seconds: float
    peak_memory_bytes: int
    device: str
    curve: tuple[EpochRecord, ...]
    flags: tuple[Flag, ...]
