"""Turn a run that ended into its record."""

import numpy as np
import torch
from numpy.typing import NDArray

from finscale.metrics.classification import log_loss
from finscale.training.checkpoint import Progress
from finscale.training.memory import peak_memory_bytes
from finscale.training.monitor import calibration_slope, flags_of, spread
from finscale.training.result import Flag, Outcome, TrainingResult
from finscale.training.stepper import Stepper
from finscale.windows.data import WindowData

__all__ = ["summarise"]

Vector = NDArray[np.float64]


def summarise(
    outcome: Outcome,
    *,
    fingerprint: str,
    progress: Progress,
    stepper: Stepper,
    data: WindowData,
    forecast: Vector | None,
    device: torch.device,
) -> TrainingResult:
    """Return the record of a run.

    Parameters
    ----------
    outcome, fingerprint
        How it ended, and which run it is.
    progress, stepper
        Where it stands, and what it executed.
    forecast : array (n,) or None
        Probabilities of the best weights on ``val_select``; None where no epoch ended.
    """
    y = data.targets_at("val_select").astype(np.float64)
    stopping = progress.early_stopping
    return TrainingResult(
        outcome=outcome,
        fingerprint=fingerprint,
        best_val_loss=stopping.best_loss,
        best_epoch=stopping.best_epoch,
        base_rate_loss=log_loss(y, np.full_like(y, data.base_rate)),
        stopped_epoch=len(progress.curve),
        n_steps=progress.step,
        n_params=stepper.n_params,
        batch=stepper.batch,
        executed=stepper.executed(),
        spread=None if forecast is None else spread(forecast),
        calibration_slope=None if forecast is None else calibration_slope(y, forecast),
        seconds=progress.seconds,
        peak_memory_bytes=peak_memory_bytes(device),
        device=device.type,
        curve=progress.curve,
        flags=_capped(outcome, progress, stepper)
        + (() if forecast is None else flags_of(y, forecast, base_rate=data.base_rate, task=data.spec.task)),
    )


def _capped(outcome: Outcome, progress: Progress, stepper: Stepper) -> tuple[Flag, ...]:
    whole = progress.step == stepper.total_steps or progress.early_stopping.exhausted(stepper.training)
    return ("capped",) if outcome == "complete" and not whole else ()
