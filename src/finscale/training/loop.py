"""Train one run: resumable at any step, silent but for its events.

Windows are gathered on the device from the resident feature matrix. The order of epoch k is a function of
(seed, k), the dropout of step s one of (seed, s): on CPU a resumed run repeats an uninterrupted one exactly.
A step takes ``effective_batch_size`` windows of the epoch's order; the last group of an epoch holds the rest.
Where several processes train (`finscale.training.distributed`) all take every decision alike; one leads.
"""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from finscale.core.files import write_json
from finscale.core.seeding import generator
from finscale.training.checkpoint import Checkpoints, Progress, checkpoint_tensors, load_weights, restore
from finscale.training.config import ExecutionConfig, resolve_device
from finscale.training.distributed import Processes, meet, whole
from finscale.training.early_stopping import EarlyStopping
from finscale.training.evaluate import observe, save_best
from finscale.training.events import CheckpointSaved, EpochEnd, Event, Finished, Resumed, Started, ignore
from finscale.training.execution import executing
from finscale.training.memory import peak_memory_bytes, reset_peak_memory
from finscale.training.monitor import spread_of
from finscale.training.result import EpochRecord, Outcome, TrainingResult
from finscale.training.run_spec import RunSpec, check_data, fingerprint, write_run_spec
from finscale.training.scoring import Rows, scoring_of
from finscale.training.stepper import Stepper
from finscale.training.summary import summarise
from finscale.windows.data import WindowData
from finscale.windows.view import view_windows

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
        Asked before every optimizer step; True, in any process, writes a checkpoint and ends with outcome
        ``stopped``.

    Returns
    -------
    TrainingResult
        ``diverged`` is an outcome, not an exception.

    Raises
    ------
    FinscaleError
        When data, architecture, device, strategy or an existing checkpoint do not fit the specification.
    """
    data = view_windows(data, spec.view)
    check_data(spec, data)
    device = resolve_device(execution)
    processes = meet(execution.strategy, device)
    with executing(execution, device):
        run = _Run(
            spec,
            data,
            directory=directory,
            execution=execution,
            device=device,
            on_event=on_event if processes.leads else ignore,
            processes=processes,
        )
        return run.finish(run.advance(should_stop))


class _Run:
    """One run on its way: ``progress`` holds the epochs that ended, the stepper what is under way."""

    def __init__(
        self,
        spec: RunSpec,
        data: WindowData,
        *,
        directory: Path,
        execution: ExecutionConfig,
        device: torch.device,
        on_event: Callable[[Event], None],
        processes: Processes,
    ) -> None:
        self.processes = processes
        self.spec, self.data, self.training = spec, data, spec.training
        self.directory, self.execution, self.device, self.on_event = directory, execution, device, on_event
        self.started_at, began = time.perf_counter(), datetime.now(UTC)
        self.saved_at = self.started_at
        reset_peak_memory(device)
        self.stepper = Stepper(spec, data, execution=execution, device=device, processes=processes)
        self.val_origins = torch.from_numpy(data.origins["val_select"]).to(device)
        self.scoring = scoring_of(data.spec)
        self.checkpoints = Checkpoints(directory, fingerprint(spec))
        self.progress, self.best = Progress(started_at=began), dict[str, Tensor]()
        self.step_in_epoch, self.loss_sum = 0, self._scalar(0.0)
        self._announce()
        self._resume()
        if processes.leads:
            write_run_spec(directory / "run_spec.json", spec)

    def advance(self, should_stop: Callable[[], bool]) -> Outcome:
        """Train epoch after epoch until the schedule's end, a cap, lost patience, a stop or a divergence."""
        while not self._ended():
            outcome = self._epoch(should_stop)
            if outcome is not None:
                return outcome
            if self.processes.any(time.perf_counter() - self.saved_at >= self.execution.checkpoint_every_s):
                self._save()
        self._save()
        return "complete"

    def finish(self, outcome: Outcome) -> TrainingResult:
        """Write the best weights and the record, and return the record."""
        if self.best:
            load_weights(self.stepper.model, self.best)
        result = summarise(
            outcome,
            fingerprint=self.checkpoints.fingerprint,
            progress=self._progress_now(),
            stepper=self.stepper,
            data=self.data,
            rows=self._validate() if self.best else None,
            device=self.device,
        )
        if self.processes.leads:
            self._record(result)
        self.processes.wait()
        return result

    def _record(self, result: TrainingResult) -> None:
        if result.best_epoch is not None:
            save_best(self.directory, self.best, fingerprint=result.fingerprint, epoch=result.best_epoch)
        write_json(self.directory / "result.json", result.model_dump(mode="json"))
        self.on_event(
            Finished(result.outcome, result.best_val_loss, result.best_epoch, result.n_steps, result.seconds)
        )

    def _ended(self) -> bool:
        n_epochs = min(self.training.epochs, self.training.max_epochs or self.training.epochs)
        patience_lost = self.progress.early_stopping.exhausted(self.training)
        at_cap = self._at_last_step() and self.step_in_epoch == 0
        return len(self.progress.curve) >= n_epochs or at_cap or patience_lost

    def _at_last_step(self) -> bool:
        return self.training.max_steps is not None and self.stepper.step >= self.training.max_steps

    def _epoch(self, should_stop: Callable[[], bool]) -> Outcome | None:
        """Train what is left of the epoch under way and validate; None when the run goes on."""
        began, first_step = time.perf_counter(), self.step_in_epoch
        for origins in self._groups()[first_step:]:
            if self.processes.any(should_stop()):
                return "stopped" if self._save() else "diverged"
            if self._at_last_step():
                # The checkpoint comes first: a longer run goes on from the middle of this epoch.
                return "diverged" if not self._save() or self._close(began, first_step) else "complete"
            self.loss_sum += self.stepper.update(origins)
            self.step_in_epoch += 1
        return self._close(began, first_step)

    def _groups(self) -> tuple[Tensor, ...]:
        """Return the training origins of the epoch under way, step by step."""
        random = generator(self.spec.seed, "epoch", len(self.progress.curve) + 1)
        order = torch.from_numpy(random.permutation(self.data.origins["train"])).to(self.device)
        return order.split(self.training.effective_batch_size)

    def _close(self, began: float, first_step: int) -> Outcome | None:
        """End an epoch: validate, keep the weights if they are the best, report."""
        n_seen = self._n_windows(self.step_in_epoch)
        train_loss = self.processes.total(self.loss_sum) / n_seen
        trained_s, rows = time.perf_counter() - began, self._validate()
        if rows is None or not (math.isfinite(train_loss) and math.isfinite(rows.value)):
            return "diverged"
        samples_per_s = (n_seen - self._n_windows(first_step)) / trained_s
        record = EpochRecord(
            epoch=len(self.progress.curve) + 1,
            step=self.stepper.step,
            train_loss=train_loss,
            val_loss=rows.value,
            learning_rate=self.stepper.learning_rate,
            spread=spread_of(rows),
            seconds=time.perf_counter() - began,
            samples_per_s=samples_per_s,
            mfu=self.stepper.mfu(samples_per_s=samples_per_s),
        )
        self._absorb(record)
        return None

    def _absorb(self, record: EpochRecord) -> None:
        """Make an ended epoch part of the progress."""
        stopping = self.progress.early_stopping.after(
            record.val_loss, epoch=record.epoch, training=self.training
        )
        if stopping.best_epoch == record.epoch:
            weights = self.stepper.model.state_dict()
            self.best = {
                name: whole(tensor.detach()).to("cpu", copy=True) for name, tensor in weights.items()
            }
        changes = {"curve": (*self.progress.curve, record), "early_stopping": stopping}
        self.progress = self.progress.model_copy(update=changes)
        self.step_in_epoch, self.loss_sum = 0, self._scalar(0.0)
        self._report(record, stopping)

    def _n_windows(self, n_steps: int) -> int:
        """Return how many windows the first steps of an epoch hold."""
        return min(n_steps * self.training.effective_batch_size, len(self.data.origins["train"]))

    def _validate(self) -> Rows | None:
        model, windows = self.stepper.model, self.stepper.windows
        return observe(
            model,
            windows,
            self.val_origins,
            scoring=self.scoring,
            execution=self.execution,
            processes=self.processes,
        )

    def _scalar(self, number: float) -> Tensor:
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor(number, dtype=dtype, device=self.device)

    # -- checkpoints and records ---------------------------------------------------------------------------

    def _announce(self) -> None:
        self.on_event(
            Started(
                n_params=self.stepper.n_params,
                n_train_windows=len(self.data.origins["train"]),
                epochs=self.training.epochs,
                steps_per_epoch=self.stepper.steps_per_epoch,
                total_steps=self.stepper.total_steps,
                device=self.device.type,
            )
        )

    def _report(self, record: EpochRecord, stopping: EarlyStopping) -> None:
        assert stopping.best_loss is not None
        assert stopping.best_epoch is not None
        self.on_event(
            EpochEnd(
                **record.model_dump(),
                epochs=self.training.epochs,
                best_val_loss=stopping.best_loss,
                best_epoch=stopping.best_epoch,
                memory_bytes=peak_memory_bytes(self.device),
            )
        )

    def _save(self) -> bool:
        """Write a checkpoint; False, and nothing written, where the loss is no longer finite."""
        progress = self._progress_now()
        if not math.isfinite(progress.loss_sum):
            return False
        tensors = checkpoint_tensors(self.stepper.model, self.stepper.optimizer, best=self.best)
        if self.processes.leads:
            path = self.checkpoints.save(progress, tensors)
            self.on_event(CheckpointSaved(path=str(path), step=self.stepper.step))
        self.saved_at = time.perf_counter()
        return True

    def _progress_now(self) -> Progress:
        changes = {
            "step": self.stepper.step,
            "step_in_epoch": self.step_in_epoch,
            "loss_sum": self.processes.total(self.loss_sum),
            "learning_rate_max": self.stepper.learning_rate_max,
            "learning_rate_last": self.stepper.learning_rate,
            "batch": self.stepper.batch,
            "loss_scale": self.stepper.loss_scale,
            "seconds": self._seconds(),
        }
        return self.progress.model_copy(update=changes)

    def _seconds(self) -> float:
        return self.progress.seconds + time.perf_counter() - self.started_at

    def _resume(self) -> None:
        found = self.checkpoints.load(self.on_event)
        self.processes.agree(
            f"the last step in {self.checkpoints.folder}",
            -1 if found is None else found[1].step,
            remedy="name a directory that all of them share",
        )
        if found is None:
            return
        path, self.progress, tensors = found
        self.best = restore(self.stepper.model, self.stepper.optimizer, tensors)
        self.stepper.go_on_from(self.progress)
        self.step_in_epoch = self.progress.step_in_epoch
        self.loss_sum = self._scalar(self.progress.loss_sum if self.processes.leads else 0.0)
        self.on_event(Resumed(path=str(path), step=self.stepper.step, epochs_done=len(self.progress.curve)))
