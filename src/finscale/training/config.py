"""What to train (numbers) and how to execute it (hardware). No torch at import.

`TrainingConfig` belongs to the experiment: it decides the numbers. `ExecutionConfig` belongs to the
machine: on one device it never changes what is learned beyond the rounding of its precision.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults

if TYPE_CHECKING:
    import torch

__all__ = ["SMOKE_TEST_DEFAULTS", "ExecutionConfig", "TrainingConfig", "resolve_device"]

SMOKE_TEST_DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "architecture": MappingProxyType({"d_model": 256, "n_layers": 4, "n_heads": 8, "d_ff": 1024}),
        "training": MappingProxyType(
            {"learning_rate": 5e-4, "epochs": 75, "weight_decay": 1e-3, "warmup_steps": 200, "dropout": 0.15}
        ),
    }
)
"""What ``allow_defaults=true`` trains when a cell has not been searched."""


class TrainingConfig(Record):
    """How the weights are found.

    Parameters
    ----------
    learning_rate : float
        Peak rate, reached at the end of the warm-up.
    epochs : int
        Length of the schedule in passes over the training windows; a cap does not shorten the schedule.
    weight_decay : float
        Decoupled for ``adamw``, an L2 term in the gradient for ``adam``; never on norms, biases, positions.
    warmup_steps : int
        Optimizer steps of warm-up; at most one less than the steps of the whole schedule.
    warmup_factor : float or None
        Share of the peak rate at which the warm-up stays; None rises linearly.
    schedule : str
        Shape after the warm-up, see `finscale.training.schedules`.
    decay_per_epoch, flat_epochs : float, int or None
        Of the exponential schedule: factor from one epoch to the next, and how many epochs, counted from the
        first, keep the peak rate (None: one).
    clip_norm : float or None
        Largest global gradient norm; None does not clip.
    patience, min_delta : int, float
        Stop after ``patience`` epochs that did not lower the validation loss by more than ``min_delta``.
    effective_batch_size : int
        Windows per optimizer step, whatever the micro-batch.
    max_steps, max_epochs : int or None
        Caps for tests, demos and planning: a capped run is a prefix of the full one.
    """

    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    epochs: int = Field(ge=1)
    weight_decay: float = Field(ge=0, allow_inf_nan=False)
    warmup_steps: int = Field(ge=0)
    warmup_factor: float | None = Field(default=None, gt=0, le=1)
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "linear", "constant", "exponential"] = "cosine"
    decay_per_epoch: float | None = Field(default=None, gt=0, lt=1)
    flat_epochs: int | None = Field(default=None, ge=1)
    clip_norm: float | None = Field(default=1.0, gt=0)
    patience: int = Field(default=10, ge=1)
    min_delta: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    effective_batch_size: int = Field(default=128, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    max_epochs: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Self:
        raise_faults(self._unread_options())
        return self

    def _unread_options(self) -> Iterator[Fault]:
        if self.warmup_factor is not None and self.warmup_steps == 0:
            remedy = "remove it, or give warmup_steps"
            yield Fault("warmup_factor", "be left out where warmup_steps=0", self.warmup_factor, remedy)
        if self.schedule == "exponential" and self.decay_per_epoch is None:
            yield Fault("decay_per_epoch", "be given for schedule=exponential", None, "try 0.9")
        unread = {"decay_per_epoch": self.decay_per_epoch, "flat_epochs": self.flat_epochs}
        for name, value in unread.items():
            if value is not None and self.schedule != "exponential":
                rule = f"be left out where schedule={self.schedule}"
                yield Fault(name, rule, value, "remove it, or choose schedule=exponential")


class ExecutionConfig(Record):
    """Where and in what precision a run executes.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
        ``auto`` takes cuda, then mps, then cpu.
    precision : {"fp32", "bf16"}
        ``bf16`` runs the forward pass under autocast; weights and optimizer stay in float32.
    tf32 : bool
        Allow TensorFloat-32 matrix products on CUDA.
    compile : {"off", "full"}
        ``full`` compiles the whole model on CUDA; elsewhere that costs more than it gives, and is left out.
    n_threads : int
        CPU threads of one run; one, because jobs share the cores.
    checkpoint_every_s : float
        Least wall time between two end-of-epoch checkpoints, in seconds; a stop and the end always write one.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    tf32: bool = False
    compile: Literal["off", "full"] = "off"
    n_threads: int = Field(default=1, ge=1)
    checkpoint_every_s: float = Field(default=5.0, ge=0)


def resolve_device(execution: ExecutionConfig) -> "torch.device":
    """Return the device a run will use.

    Raises
    ------
    Fault
        When the requested device is not on this machine.
    """
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if execution.device == "auto":
        return torch.device(next(name for name, found in present.items() if found))
    if not present[execution.device]:
        usable = ", ".join(name for name, found in present.items() if found)
        raise Fault("device", f"be one this machine has ({usable})", execution.device, "set device=auto")
    return torch.device(execution.device)
