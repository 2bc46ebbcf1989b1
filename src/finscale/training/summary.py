"""Turn a run that ended into its record."""

from datetime import UTC, datetime

import torch

from finscale.training.checkpoint import Progress
from finscale.training.evaluate import reference_rows
from finscale.training.memory import peak_memory_bytes
from finscale.training.monitor import health_of
from finscale.training.result import Flag, Outcome, TrainingResult
from finscale.training.scoring import Rows
from finscale.training.stepper import Stepper
from finscale.windows.data import WindowData

__all__ = ["summarise"]


def summarise(
    outcome: Outcome,
    *,
    fingerprint: str,
    progress: Progress,
    stepper: Stepper,
    data: WindowData,
    rows: Rows | None,
    device: torch.device,
) -> TrainingResult:
    """Return the record of a run.

    Parameters
    ----------
    outcome, fingerprint
        How it ended, and which run it is.
    progress, stepper
        Where it stands, and what it executed.
    rows : Rows or None
        What the best weights say on ``val_select``; None where no epoch ended.
    """
    health = None if rows is None else health_of(data, rows)
    reference = reference_rows(data, "val_select", windows=stepper.windows, device=device)
    stopping = progress.early_stopping
    return TrainingResult(
        outcome=outcome,
        fingerprint=fingerprint,
        best_val_loss=stopping.best_loss,
        best_epoch=stopping.best_epoch,
        base_rate_loss=reference.value,
        stopped_epoch=len(progress.curve),
        n_steps=progress.step,
        n_params=stepper.n_params,
        batch=stepper.batch,
        executed=stepper.executed(),
        spread=health.spread if health else None,
        calibration_slope=health.calibration_slope if health else None,
        width_shares=health.width_shares if health else (),
        coverages=health.coverages if health else (),
        started_at=progress.started_at,
        finished_at=datetime.now(UTC),
        seconds=progress.seconds,
        peak_memory_bytes=peak_memory_bytes(device),
        device=device.type,
        curve=progress.curve,
        flags=_capped(outcome, progress, stepper) + (health.flags if health else ()),
    )


def _capped(outcome: Outcome, progress: Progress, stepper: Stepper) -> tuple[Flag, ...]:
    whole = progress.step == stepper.total_steps or progress.early_stopping.exhausted(stepper.training)
    return ("capped",) if outcome == "complete" and not whole else ()
