"""The model, its optimizer and its windows: one call makes one optimizer step."""

import functools
import math

import torch
from torch import Tensor, nn

from finscale.archgrid.batching import BatchConfig, split_batch
from finscale.archgrid.probe import checkpoint_activations
from finscale.core.seeding import derive
from finscale.training.checkpoint import Progress
from finscale.training.config import ExecutionConfig
from finscale.training.evaluate import build_run_model
from finscale.training.execution import autocast, seed_device
from finscale.training.gradients import accumulate_gradients
from finscale.training.losses import build_loss
from finscale.training.optimizers import build_optimizer, set_learning_rate
from finscale.training.result import Executed
from finscale.training.run_spec import RunSpec
from finscale.training.schedules import learning_rate_at, warmup_steps_used
from finscale.windows.batches import DeviceWindows
from finscale.windows.data import WindowData
from finscale.windows.tasks import parse_task

__all__ = ["COMPILED_ON", "Stepper"]

COMPILED_ON = ("cuda",)
"""Devices on which compiling pays: on a CPU it took a minute and made small models slower."""


class Stepper:
    """Makes optimizer steps and remembers what it did.

    Attributes
    ----------
    step : int
        Steps made so far; also the place in the schedule.
    learning_rate_max : float
        Largest rate found in the optimizer after a step.
    batch : BatchConfig or None
        Largest group of a step so far, as it was cut.
    """

    def __init__(
        self, spec: RunSpec, data: WindowData, *, execution: ExecutionConfig, device: torch.device
    ) -> None:
        self.training, self.execution, self.seed = spec.training, execution, spec.seed
        self.device = device
        self.compile = execution.compile if device.type in COMPILED_ON else "off"
        self.windows = DeviceWindows(data, device)
        self.model = build_run_model(spec, data, device).train()
        self.recomputes = spec.batch.activation_checkpointing
        checkpoint_activations(self.model, self.recomputes)
        self.optimizer = build_optimizer(self.model, spec.training)
        self.steps_per_epoch = math.ceil(len(data.origins["train"]) / spec.training.effective_batch_size)
        self.total_steps = spec.training.epochs * self.steps_per_epoch
        self.step, self.learning_rate_max = 0, 0.0
        self.batch: BatchConfig | None = None
        self.micro_batch_size = spec.batch.micro_batch_size
        self._accumulate = functools.partial(
            accumulate_gradients,
            torch.compile(self.model) if self.compile == "full" else self.model,
            self.windows,
            kind=parse_task(data.spec.task).kind,
            loss=build_loss(data.spec, device),
            micro_batch_size=self.micro_batch_size,
            precision=functools.partial(autocast, execution, device),
        )

    @property
    def learning_rate(self) -> float:
        """The rate in the optimizer's groups; 0 before the first step."""
        return float(self.optimizer.param_groups[0]["lr"]) if self.step else 0.0

    @property
    def n_params(self) -> int:
        """N of the built model."""
        return sum(weights.numel() for weights in self.model.parameters())

    def update(self, origins: Tensor) -> Tensor:
        """Make one step on ``origins`` and return their summed loss; nothing here waits for the device."""
        seed_device(self.device, derive(self.seed, "dropout", self.step))
        rate = learning_rate_at(self.step, training=self.training, total_steps=self.total_steps)
        set_learning_rate(self.optimizer, rate)
        loss_sum = self._accumulate(origins)
        if self.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._remember(len(origins))
        return loss_sum

    def go_on_from(self, progress: Progress) -> None:
        """Take up the counters of a checkpoint, whose tensors are already in place."""
        self.step, self.batch = progress.step, progress.batch
        self.learning_rate_max = progress.learning_rate_max
        set_learning_rate(self.optimizer, progress.learning_rate_last)

    def _remember(self, n_windows: int) -> None:
        self.step += 1
        self.learning_rate_max = max(self.learning_rate_max, self.learning_rate)
        if self.batch is None or n_windows > self.batch.effective_batch_size:
            self.batch = split_batch(
                self.micro_batch_size,
                effective_batch_size=n_windows,
                activation_checkpointing=self.recomputes,
            )

    def executed(self) -> Executed:
        """Return the training parameters, read back from the objects that ran."""
        decaying, other = self.optimizer.param_groups
        rates = [module.p for module in self.model.modules() if isinstance(module, nn.Dropout)]
        return Executed(
            optimizer=type(self.optimizer).__name__,
            fused=bool(decaying["fused"]),
            learning_rate_max=self.learning_rate_max,
            learning_rate_last=self.learning_rate,
            weight_decay=decaying["weight_decay"],
            n_decayed=sum(weights.numel() for weights in decaying["params"]),
            n_undecayed=sum(weights.numel() for weights in other["params"]),
            dropout=max(rates, default=0.0),
            warmup_steps=warmup_steps_used(self.training.warmup_steps, self.total_steps),
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            precision=self.execution.precision,
            compile=self.compile,
            n_threads=torch.get_num_threads(),
        )
