"""Train one run on one device: resumable at any step, silent but for its events.

Windows are gathered on the device from the resident feature matrix. The order of epoch k is a function of
(seed, k) and the dropout of step s of (seed, s): a resumed run repeats the uninterrupted one bit for bit on CPU.
A step takes ``effective_batch_size`` windows of the epoch's order; the last group of an epoch holds the rest.
"""

import functools
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from finscale.core.errors import Fault
from finscale.core.files import write_json
from finscale.core.seeding import derive, generator
from finscale.metrics.classification import log_loss
from finscale.training.checkpoint import Checkpoints, Progress, checkpoint_tensors, restore
from finscale.training.config import ExecutionConfig, resolve_device
from finscale.training.evaluate import build_run_model, probabilities, save_best
from finscale.training.events import CheckpointSaved, EpochEnd, Event, Finished, Resumed, Started, ignore
from finscale.training.execution import autocast, executing
from finscale.training.gradients import accumulate_gradients
from finscale.training.memory import peak_memory_bytes, reset_peak_memory
from finscale.training.monitor import spread
from finscale.training.optimizers import build_optimizer, set_learning_rate
from finscale.training.result import EpochRecord, Outcome, TrainingResult
from finscale.training.run_spec import RunSpec, check_data, fingerprint, write_run_spec
from finscale.training.schedules import learning_rate_at
from finscale.training.summary import Forecast, executed_batch, executed_training, result_of
from finscale.windows.batches import DeviceWindows
from finscale.windows.data import WindowData

__all__ = ["never", "train"]


def never() -> bool:
    """Do not stop."""
    return False


def train(
    spec: RunSpec,
    data: WindowData,
    *,
    directory: Path,
    execution: ExecutionConfig,
    on_event: Callable[[Event], None] = ignore,
    should_stop: Callable[[], bool] = never,
) -> TrainingResult:
    """Train ``spec`` on ``data``, going on from a checkpoint in ``directory`` where one fits.

    Parameters
    ----------
    spec : RunSpec
    data : WindowData
    directory : Path
        Receives ``run_spec.json``, ``checkpoints/``, ``best.safetensors`` and ``result.json``.
    execution : ExecutionConfig
    on_event : callable
        Called with every event, in this thread.
    should_stop : callable
        Asked before every optimizer step; True writes a checkpoint and ends with outcome ``stopped``.

    Returns
    -------
    TrainingResult
        ``diverged`` is an outcome, not an exception.

    Raises
    ------
    FinscaleError
        When data, architecture, device or an existing checkpoint do not fit the specification.
    """
    check_data(spec, data)
    _refuse_empty(data)
    device = resolve_device(execution)
    with executing(execution, device):
        run = _Run(spec, data, directory=directory, execution=execution, device=device, on_event=on_event)
        return run.finish(run.advance(should_stop))


class _Run:
    """One run on its way: ``progress`` holds what has ended, the other counters what is under way."""

    def __init__(
        self,
        spec: RunSpec,
        data: WindowData,
        *,
        directory: Path,
        execution: ExecutionConfig,
        device: torch.device,
        on_event: Callable[[Event], None],
    ) -> None:
        self.spec, self.data, self.training = spec, data, spec.training
        self.directory, self.execution, self.device, self.on_event = directory, execution, device, on_event
        self.started_at = self.saved_at = time.perf_counter()
        reset_peak_memory(device)
        self.windows = DeviceWindows(data, device)
        self.model = build_run_model(spec, data, device).train()
        self.forward = torch.compile(self.model) if execution.compile == "full" else self.model
        self.optimizer = build_optimizer(self.model, spec.training)
        self.n_train = len(data.origins["train"])
        self.steps_per_epoch = math.ceil(self.n_train / spec.training.effective_batch_size)
        self.total_steps = spec.training.epochs * self.steps_per_epoch
        self.val_origins = torch.from_numpy(data.origins["val_select"]).to(device)
        self.val_targets = data.targets_at("val_select").astype(np.float64)
        self.checkpoints = Checkpoints(directory, fingerprint(spec))
        self.progress, self.best, self.loss_sum = Progress(), dict[str, Tensor](), self._scalar(0.0)
        self.step = self.step_in_epoch = 0
        self.learning_rate_max, self.batch = 0.0, self.progress.batch
        self._announce()
        self._resume()
        write_run_spec(directory / "run_spec.json", spec)

    def advance(self, should_stop: Callable[[], bool]) -> Outcome:
        """Train epoch after epoch until the schedule's end, a cap, lost patience, a stop or a divergence."""
        while not self._ended():
            outcome = self._epoch(should_stop)
            if outcome is not None:
                return outcome
            if time.perf_counter() - self.saved_at >= self.execution.checkpoint_every_s:
                self._save()
        self._save()
        return "complete"

    def _ended(self) -> bool:
        caps = (self.training.epochs, self.training.max_epochs or self.training.epochs)
        out_of_epochs = len(self.progress.curve) >= min(caps)
        return out_of_epochs or self._at_last_step() or self.progress.early_stopping.exhausted(self.training)

    def _at_last_step(self) -> bool:
        return self.training.max_steps is not None and self.step >= self.training.max_steps

    def _epoch(self, should_stop: Callable[[], bool]) -> Outcome | None:
        """Train what is left of the epoch under way and validate; None when the run goes on."""
        began, first_step = time.perf_counter(), self.step_in_epoch
        groups = self._order().split(self.training.effective_batch_size)
        for origins in groups[first_step:]:
            if should_stop():
                return "stopped" if self._save() else "diverged"
            if self._at_last_step():
                return self._close_early(began, first_step)
            self._update(origins)
        return self._close(began, first_step)

    def _order(self) -> Tensor:
        """Return the training origins in the order of the epoch under way."""
        epoch = len(self.progress.curve) + 1
        order = generator(self.spec.seed, "epoch", epoch).permutation(self.data.origins["train"])
        return torch.from_numpy(order).to(self.device)

    def _update(self, origins: Tensor) -> None:
        """Make one optimizer step; nothing here waits for the device."""
        torch.manual_seed(derive(self.spec.seed, "dropout", self.step))
        rate = learning_rate_at(self.step, training=self.training, total_steps=self.total_steps)
        set_learning_rate(self.optimizer, rate)
        self.loss_sum += accumulate_gradients(
            self.forward,
            self.windows,
            origins,
            micro_batch_size=self.spec.batch.micro_batch_size,
            precision=functools.partial(autocast, self.execution, self.device),
        )
        if self.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.learning_rate_max = max(self.learning_rate_max, self._learning_rate())
        self.batch = executed_batch(origins, self.spec.batch.micro_batch_size, before=self.batch)
        self.step += 1
        self.step_in_epoch += 1

    def _close_early(self, began: float, first_step: int) -> Outcome:
        """Validate in the middle of an epoch, at the cap; the checkpoint keeps the state a longer run goes on from."""
        saved = self._save()
        return (self._close(began, first_step) or "complete") if saved else "diverged"

    def _close(self, began: float, first_step: int) -> Outcome | None:
        """End an epoch: validate, keep the weights if they are the best, report."""
        n_seen = self._n_windows(self.step_in_epoch)
        train_loss, trained_at = float(self.loss_sum) / n_seen, time.perf_counter()
        p = probabilities(self.model, self.windows, self.val_origins, execution=self.execution)
        if not (math.isfinite(train_loss) and np.isfinite(p).all()):
            return "diverged"
        record = EpochRecord(
            epoch=len(self.progress.curve) + 1,
            step=self.step,
            train_loss=train_loss,
            val_loss=log_loss(self.val_targets, p),
            learning_rate=self._learning_rate(),
            spread=spread(p),
            seconds=time.perf_counter() - began,
            samples_per_s=(n_seen - self._n_windows(first_step)) / (trained_at - began),
        )
        self._absorb(record)
        return None

    def _absorb(self, record: EpochRecord) -> None:
        """Make an ended epoch part of the progress."""
        before = self.progress.early_stopping
        stopping = before.after(record.val_loss, epoch=record.epoch, min_delta=self.training.min_delta)
        if stopping.best_epoch == record.epoch:
            self.best = {name: w.detach().to("cpu", copy=True) for name, w in self.model.state_dict().items()}
        changes = {"curve": (*self.progress.curve, record), "early_stopping": stopping}
        self.progress = self.progress.model_copy(update=changes)
        self.step_in_epoch, self.loss_sum = 0, self._scalar(0.0)
        self.on_event(
            EpochEnd(
                **record.model_dump(),
                epochs=self.training.epochs,
                best_val_loss=float(stopping.best_loss or 0.0),
                best_epoch=stopping.best_epoch or 0,
                memory_bytes=peak_memory_bytes(self.device),
            )
        )

    def _save(self) -> bool:
        """Write a checkpoint; False, and nothing written, where the loss is no longer finite."""
        loss_sum = float(self.loss_sum)
        if not math.isfinite(loss_sum):
            return False
        changes = {
            "step": self.step,
            "step_in_epoch": self.step_in_epoch,
            "loss_sum": loss_sum,
            "learning_rate_max": self.learning_rate_max,
            "batch": self.batch,
            "seconds": self._seconds(),
        }
        tensors = checkpoint_tensors(self.model, self.optimizer, best=self.best)
        path = self.checkpoints.save(self.progress.model_copy(update=changes), tensors)
        self.saved_at = time.perf_counter()
        self.on_event(CheckpointSaved(path=str(path), step=self.step))
        return True

    def _resume(self) -> None:
        found = self.checkpoints.load(self.on_event)
        if found is None:
            return
        path, self.progress, tensors = found
        self.best = restore(self.model, self.optimizer, tensors)
        self.step, self.step_in_epoch = self.progress.step, self.progress.step_in_epoch
        self.loss_sum = self._scalar(self.progress.loss_sum)
        self.learning_rate_max, self.batch = self.progress.learning_rate_max, self.progress.batch
        self.on_event(Resumed(path=str(path), step=self.step, epochs_done=len(self.progress.curve)))

    def finish(self, outcome: Outcome) -> TrainingResult:
        """Write the best weights and the record, and return it."""
        if self.best:
            epoch = self.progress.early_stopping.best_epoch or 0
            save_best(self.directory, self.best, fingerprint=self.checkpoints.fingerprint, epoch=epoch)
            self.model.load_state_dict(self.best)
        result = result_of(
            outcome,
            progress=self.progress.model_copy(
                update={"step": self.step, "batch": self.batch, "seconds": self._seconds()}
            ),
            spec=self.spec,
            data=self.data,
            forecast=self._forecast(),
            executed=executed_training(
                self.model,
                self.optimizer,
                execution=self.execution,
                training=self.training,
                steps_per_epoch=self.steps_per_epoch,
                learning_rate_max=self.learning_rate_max,
            ),
            device=self.device,
        )
        write_json(self.directory / "result.json", result.model_dump(mode="json"))
        stopping = self.progress.early_stopping
        self.on_event(Finished(outcome, stopping.best_loss, stopping.best_epoch, self.step, result.seconds))
        return result
