"""The model, its optimizer and its windows: one call makes one optimizer step."""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from finscale.archgrid.batching import BatchConfig, split_batch
from finscale.archgrid.probe import checkpoint_activations
from finscale.core.seeding import derive
from finscale.models.config import reads_calendar
from finscale.models.contract import Batch, ModelOutput
from finscale.training.checkpoint import LossScale, Progress
from finscale.training.config import ExecutionConfig
from finscale.training.distributed import ALONE, Processes
from finscale.training.evaluate import build_run_model
from finscale.training.execution import autocast, compile_regional, seed_device
from finscale.training.first_quantiles import start_at_climatology
from finscale.training.gradients import accumulate_gradients
from finscale.training.losses import build_loss
from finscale.training.optimizers import CAPTURABLE, build_optimizer, set_learning_rate
from finscale.training.peak_flops import utilisation
from finscale.training.result import Executed
from finscale.training.run_spec import RunSpec
from finscale.training.schedules import learning_rate_at, schedule_used, warmup_steps_used
from finscale.training.step_graph import StepGraph
from finscale.windows.batches import DeviceWindows
from finscale.windows.data import WindowData
from finscale.windows.tasks import parse_task

__all__ = ["COMPILED_ON", "Stepper"]

COMPILED_ON = ("cuda",)
"""Devices on which compiling pays.

On a CPU (one busy core with AVX-512, 128 windows of 60 bars) one block took 4 to 30 s to compile, and again
for a short last group and for validation; a step of models of 25 to 830 thousand weights then took 1.10 to
1.21 times the processor time of before, 1.03 times without dropout: no run is long enough.
"""


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
    mfu : callable
        `finscale.training.peak_flops.utilisation` at some ``samples_per_s``.
    """

    def __init__(
        self,
        spec: RunSpec,
        data: WindowData,
        *,
        execution: ExecutionConfig,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        self.training, self.execution, self.seed = spec.training, execution, spec.seed
        self.device, self.processes = device, processes
        self.compile = execution.compile if device.type in COMPILED_ON else "off"
        self.windows = DeviceWindows(data, device, calendar=reads_calendar(spec.model))
        self.model = build_run_model(spec, data, device).train()
        self.first_quantiles = start_at_climatology(self.model, data)
        self.recomputes = spec.batch.activation_checkpointing
        checkpoint_activations(self.model, self.recomputes)
        forward = _placed(self.model, self.compile, processes)
        self.steps_per_epoch = math.ceil(len(data.origins["train"]) / spec.training.effective_batch_size)
        self.total_steps = spec.training.epochs * self.steps_per_epoch
        self.is_graph = self._can_be_graph(data)
        self.optimizer = build_optimizer(
            self.model, spec.training, total_steps=self.total_steps, capturable=self.is_graph
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=execution.precision == "fp16")
        self.step, self.learning_rate_max = 0, 0.0
        self.batch: BatchConfig | None = None
        self.micro_batch_size = spec.batch.micro_batch_size
        self.mfu = functools.partial(
            utilisation,
            spec,
            data,
            execution=execution,
            device=device,
            n_processes=processes.n_processes,
        )
        self._accumulate = functools.partial(
            accumulate_gradients,
            forward,
            self.windows,
            kind=parse_task(data.spec.task).kind,
            loss=build_loss(spec.training, data.spec, train_targets=data.targets_at("train"), device=device),
            micro_batch_size=self.micro_batch_size,
            precision=functools.partial(autocast, execution, device),
            scale=self.scaler.scale,
            processes=processes,
        )
        self._step: Callable[[Tensor], Tensor] = self._make_step
        if self.is_graph:
            size = spec.training.effective_batch_size
            self._step = StepGraph(self._make_step, self.model, self.optimizer, group_size=size)

    def _can_be_graph(self, data: WindowData) -> bool:
        """Whether a step can be recorded: all of it on one CUDA device, and nothing asked of the host."""
        on_one_device = self.device.type == "cuda" and self.processes.n_processes == 1
        resident = not isinstance(data.values, np.memmap)
        plain = self.execution.precision != "fp16" and not self.recomputes
        recordable = self.training.optimizer in CAPTURABLE
        return self.execution.cuda_graph and on_one_device and resident and plain and recordable

    @property
    def learning_rate(self) -> float:
        """The rate in the optimizer's groups; 0 before the first step."""
        return float(self.optimizer.param_groups[0]["lr"]) if self.step else 0.0

    @property
    def loss_scale(self) -> LossScale | None:
        """Where the gradient scaler stands; None where gradients are not scaled."""
        state = self.scaler.state_dict()
        return LossScale(scale=state["scale"], growth_tracker=state["_growth_tracker"]) if state else None

    @property
    def n_params(self) -> int:
        """N of the built model."""
        return sum(weights.numel() for weights in self.model.parameters())

    def update(self, origins: Tensor) -> Tensor:
        """Make one step on ``origins`` and return their summed loss; nothing here waits for the device.

        Where processes share them out, the loss is of this one's windows and the step is of all.
        Scaled gradients that are not finite make no step, and the scale smaller.
        """
        seed_device(self.device, derive(self.seed, "dropout", self.step, *self.processes.stream))
        rate = learning_rate_at(self.step, training=self.training, total_steps=self.total_steps)
        set_learning_rate(self.optimizer, rate)
        loss_sum = self._step(origins)
        self._remember(len(origins), rate)
        return loss_sum

    def _make_step(self, origins: Tensor) -> Tensor:
        loss_sum = self._accumulate(origins)
        self.scaler.unscale_(self.optimizer)
        if self.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss_sum

    def go_on_from(self, progress: Progress) -> None:
        """Take up the counters of a checkpoint, whose tensors are already in place."""
        self.step, self.batch = progress.step, progress.batch
        self.learning_rate_max = progress.learning_rate_max
        set_learning_rate(self.optimizer, progress.learning_rate_last)
        if progress.loss_scale is not None:
            scale, growth = progress.loss_scale.scale, progress.loss_scale.growth_tracker
            state = self.scaler.state_dict()
            self.scaler.load_state_dict({**state, "scale": scale, "_growth_tracker": growth})

    def _remember(self, n_windows: int, rate: float) -> None:
        self.step += 1
        self.learning_rate_max = max(self.learning_rate_max, rate)
        if self.batch is None or n_windows > self.batch.effective_batch_size:
            self.batch = split_batch(
                min(self.micro_batch_size, self.processes.largest_share(n_windows)),
                effective_batch_size=n_windows,
                activation_checkpointing=self.recomputes,
            )

    def executed(self) -> Executed:
        """Return the training parameters, read back from the objects that ran."""
        decaying, other = self.optimizer.param_groups
        rates = [module.p for module in self.model.modules() if isinstance(module, nn.Dropout)]
        return Executed(
            optimizer=type(self.optimizer).__name__,
            fused=bool(decaying.get("fused")),
            learning_rate_max=self.learning_rate_max,
            learning_rate_last=self.learning_rate,
            betas=decaying.get("betas"),
            momentum=decaying.get("momentum"),
            nesterov=decaying.get("nesterov"),
            weight_decay=decaying["weight_decay"],
            n_decayed=sum(weights.numel() for weights in decaying["params"]),
            n_undecayed=sum(weights.numel() for weights in other["params"]),
            dropout=max(rates, default=0.0),
            schedule=schedule_used(self.training, total_steps=self.total_steps),
            warmup_steps=warmup_steps_used(self.training.warmup_steps, self.total_steps),
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            precision=self.execution.precision,
            loss_scale=self.loss_scale.scale if self.loss_scale else None,
            compile=self.compile,
            cuda_graph=self.is_graph,
            n_threads=torch.get_num_threads(),
            strategy=self.processes.strategy,
            n_processes=self.processes.n_processes,
            first_quantiles=self.first_quantiles,
        )


def _placed(model: nn.Module, mode: str, processes: Processes) -> Callable[[Batch], ModelOutput]:
    """The forward pass that training calls: compiled as asked, and shared out."""
    if mode == "regional":
        compile_regional(model)
    placed = processes.place(model)
    return torch.compile(placed) if mode == "full" else placed
