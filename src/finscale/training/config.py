"""What to train (numbers) and how to execute it (hardware). No torch at import.

`TrainingConfig` belongs to the experiment: it decides the numbers. `ExecutionConfig` belongs to the
machine: on one device it never changes what is learned beyond the rounding of its precision.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults

if TYPE_CHECKING:
    import torch

__all__ = ["SMOKE_TEST_DEFAULTS", "ExecutionConfig", "SharedTraining", "Strategy", "TrainingConfig"]
__all__ += ["resolve_device"]

SMOKE_TEST_DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "architecture": MappingProxyType({"d_model": 256, "n_layers": 4, "n_heads": 8, "d_ff": 1024}),
        "training": MappingProxyType(
            {"learning_rate": 5e-4, "epochs": 75, "weight_decay": 1e-3, "warmup_steps": 200, "dropout": 0.15}
        ),
    }
)
"""What ``allow_defaults=true`` trains when a cell has not been searched."""


Strategy = Literal["one", "ddp", "fsdp"]
Decay = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_NEEDED: Final[dict[tuple[str, str], tuple[str, str]]] = {
    ("schedule", "exponential"): ("decay_per_epoch", "try 0.9"),
    ("loss", "huber"): ("huber_delta", "try 1.0"),
}
"""What a choice cannot do without, and a remedy."""

_READ_BY: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "warmup_factor": ("schedule", ("cosine", "linear", "constant", "exponential")),
    "betas": ("optimizer", ("adamw", "adam", "ademamix")),
    "momentum": ("optimizer", ("sgd",)),
    "slow_beta": ("optimizer", ("ademamix",)),
    "slow_weight": ("optimizer", ("ademamix",)),
    "decay_per_epoch": ("schedule", ("exponential",)),
    "flat_epochs": ("schedule", ("exponential",)),
    "huber_delta": ("loss", ("huber",)),
}
"""By option: the choice that decides whether it is read, and the values under which it is."""


class SharedTraining(Record):
    """What every training of an experiment shares; the searched values come from the trial.

    Parameters
    ----------
    warmup_factor : float or None
        Share of the peak rate at which the warm-up stays; None rises linearly.
    optimizer : str
        `finscale.training.optimizers`: ``adamw``, ``adam``, ``ademamix`` or ``sgd``.
    betas : tuple of float or None
        Decay of the averages of the gradient and of its square; None: 0.9 and 0.999. Not of ``sgd``.
    momentum, nesterov : float or None, bool
        Of ``sgd``: share of the last step that is kept (None: nothing), and whether Nesterov's form is used.
    slow_beta, slow_weight : float or None
        Of ``ademamix``: decay of the slow average of the gradient and its weight beside the fast one; None:
        0.9999 and 5. Both rise to these values over the whole schedule.
    schedule : str
        Shape of the learning rate, see `finscale.training.schedules`.
    decay_per_epoch, flat_epochs : float, int or None
        Of the exponential schedule: factor from one epoch to the next, and how many epochs, counted from the
        first, keep the peak rate (None: one).
    clip_norm : float or None
        Largest global gradient norm; None does not clip.
    patience, min_delta : int, float
        Stop after ``patience`` epochs that did not lower the validation loss by more than ``min_delta``.
    min_delta_mode : str
        Whether ``min_delta`` is a loss (``absolute``) or a share of the loss to undercut (``relative``).
    effective_batch_size : int
        Windows per optimizer step, whatever the micro-batch.
    max_steps, max_epochs : int or None
        Caps for tests, demos and planning: a capped run is a prefix of the full one.
    loss : str or None
        Of regression and forecast: ``mse`` (None as well) or ``huber``.
    huber_delta : float or None
        Error at which the Huber loss turns from a square into a line.
    class_weights : str, tuple of float or None
        Of questions about classes: ``balanced`` (inverse frequency among the training windows) or one weight
        per class; None counts every window alike.
    label_smoothing : float
        Share of the target that is spread evenly over all classes.
    focal_gamma : float or None
        Of the focal loss, which counts a window the less the surer its class is; None: cross-entropy.
    loss_weights : tuple of float or None
        One per target: class column, forecast column or quantile horizon; their mean is made 1.
    """

    warmup_factor: float | None = Field(default=None, gt=0, le=1)
    optimizer: Literal["adamw", "adam", "ademamix", "sgd"] = "adamw"
    betas: tuple[Decay, Decay] | None = None
    momentum: float | None = Field(default=None, gt=0, lt=1)
    nesterov: bool = False
    slow_beta: float | None = Field(default=None, gt=0, lt=1)
    slow_weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    schedule: Literal["cosine", "linear", "constant", "exponential", "onecycle"] = "cosine"
    decay_per_epoch: float | None = Field(default=None, gt=0, lt=1)
    flat_epochs: int | None = Field(default=None, ge=1)
    clip_norm: float | None = Field(default=1.0, gt=0)
    patience: int = Field(default=10, ge=1)
    min_delta: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    min_delta_mode: Literal["absolute", "relative"] = "absolute"
    effective_batch_size: int = Field(default=128, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    max_epochs: int | None = Field(default=None, ge=1)
    loss: Literal["mse", "huber"] | None = None
    huber_delta: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    class_weights: Literal["balanced"] | tuple[Weight, ...] | None = None
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    focal_gamma: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    loss_weights: tuple[Weight, ...] | None = None

    @field_validator("class_weights", mode="before")
    @classmethod
    def _weights_typed_as_text(cls, weights: Any) -> Any:
        """A list typed on the command line is one string with spaces, or one number."""
        if isinstance(weights, str) and weights[:1].isdigit():
            return weights.split()
        return [weights] if isinstance(weights, int | float) else weights

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Self:
        raise_faults(self._option_faults())
        return self

    def _option_faults(self) -> Iterator[Fault]:
        """Every option that is missing, or that the chosen optimizer, schedule or loss would not read."""
        for (choice, value), (needed, remedy) in _NEEDED.items():
            if getattr(self, choice) == value and getattr(self, needed) is None:
                yield Fault(needed, f"be given for {choice}={value}", None, remedy)
        for option, (choice, readers) in _READ_BY.items():
            given, chosen = getattr(self, option), getattr(self, choice)
            if given is not None and chosen not in readers:
                remedy = f"remove it, or choose {choice}={' or '.join(readers)}"
                yield Fault(option, f"be left out where {choice}={chosen}", given, remedy)
        yield from self._clashes()

    def _clashes(self) -> Iterator[Fault]:
        if self.nesterov and self.momentum is None:
            yield Fault("nesterov", "be left out without momentum", True, "give momentum, 0.9 for instance")
        if self.label_smoothing and self.focal_gamma is not None:
            rule = f"be left out where focal_gamma={self.focal_gamma}"
            yield Fault("label_smoothing", rule, self.label_smoothing, "choose one of the two")
        if self.min_delta_mode == "relative" and not 0 < self.min_delta < 1:
            rule = "be above 0 and below 1 where min_delta_mode=relative"
            yield Fault("min_delta", rule, self.min_delta, "try 0.001")


class TrainingConfig(SharedTraining):
    """How the weights are found.

    Parameters
    ----------
    learning_rate : float
        Peak rate, reached at the end of the warm-up.
    epochs : int
        Length of the schedule in passes over the training windows; a cap does not shorten the schedule.
    weight_decay : float
        Decoupled for ``adamw`` and ``ademamix``, an L2 term in the gradient for ``adam`` and ``sgd``; never
        on norms, biases, positions.
    warmup_steps : int
        Optimizer steps of warm-up; at most one less than the steps of the whole schedule.
    """

    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    epochs: int = Field(ge=1)
    weight_decay: float = Field(ge=0, allow_inf_nan=False)
    warmup_steps: int = Field(ge=0)

    def _clashes(self) -> Iterator[Fault]:
        yield from super()._clashes()
        if self.warmup_factor is not None and self.warmup_steps == 0:
            remedy = "remove it, or give warmup_steps"
            yield Fault("warmup_factor", "be left out where warmup_steps=0", self.warmup_factor, remedy)
        if self.schedule == "onecycle" and self.warmup_steps < 2:
            remedy = "raise it, or choose schedule=cosine"
            yield Fault("warmup_steps", "be at least 2 where schedule=onecycle", self.warmup_steps, remedy)


class ExecutionConfig(Record):
    """Where and in what precision a run executes.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
        ``auto`` takes cuda, then mps, then cpu.
    precision : {"fp32", "bf16", "fp16"}
        ``bf16`` and ``fp16`` run the forward pass under autocast; weights and optimizer stay in float32.
        ``fp16`` scales the loss so that small gradients survive, and needs CUDA.
    tf32 : bool
        Allow TensorFloat-32 matrix products on CUDA.
    compile : {"off", "regional", "full"}
        On CUDA; elsewhere it costs more than it gives, and is left out. ``regional`` compiles one block and
        reuses it for all, ``full`` the whole model.
    cuda_graph : bool
        On one CUDA device, record a whole optimizer step once and launch it at once from then on: for small
        models. Left out where a step asks the host: in fp16, with activation checkpointing, windows that are
        streamed, or an optimizer other than Adam and AdamW.
    n_threads : int
        CPU threads of one run; one, because jobs share the cores.
    strategy : {"one", "ddp", "fsdp"}
        ``ddp`` and ``fsdp`` share every step out among the processes that torchrun started, one per device
        (`finscale.training.distributed`); under ``fsdp`` the model is cut up among them as well.
    checkpoint_every_s : float
        Least wall time between two end-of-epoch checkpoints, in seconds; a stop and the end always write one.
    hardware_every_s : float
        Wall time between two rows of the hardware log, in seconds.
    temperature_limits_c : tuple of float
        Temperatures of the hottest GPU, in degrees Celsius, from which it counts as acceptable, training
        pauses, and training stops with a checkpoint.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    tf32: bool = False
    compile: Literal["off", "regional", "full"] = "off"
    cuda_graph: bool = False
    n_threads: int = Field(default=1, ge=1)
    strategy: Strategy = "one"
    checkpoint_every_s: float = Field(default=5.0, ge=0)
    hardware_every_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    temperature_limits_c: tuple[float, float, float] = (70.0, 85.0, 95.0)

    @field_validator("temperature_limits_c")
    @classmethod
    def _limits_rise(cls, limits: tuple[float, float, float]) -> tuple[float, float, float]:
        acceptable, pause, stop = limits
        if not 0 < acceptable < pause < stop <= 120:
            rule = "rise from above 0 to 120 degrees Celsius at most"
            raise Fault("execution.temperature_limits_c", rule, list(limits), "try [70, 85, 95]")
        return limits


def resolve_device(execution: ExecutionConfig) -> "torch.device":
    """Return the device a run will use.

    Raises
    ------
    Fault
        When the requested device is not on this machine, or does not have the precision.
    """
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if execution.device != "auto" and not present[execution.device]:
        usable = ", ".join(name for name, found in present.items() if found)
        raise Fault("device", f"be one this machine has ({usable})", execution.device, "set device=auto")
    first = next(name for name, found in present.items() if found)
    device = torch.device(first if execution.device == "auto" else execution.device)
    _require_precision(execution.precision, device)
    return device


def _require_precision(precision: str, device: "torch.device") -> None:
    import torch

    if precision == "fp16" and device.type != "cuda":
        remedy = "set execution.precision=bf16 or fp32"
        raise Fault(
            "execution.precision", f"be one that {device.type} trains in (fp32, bf16)", "fp16", remedy
        )
    lacks_bf16 = {
        "cuda": lambda: not torch.cuda.is_bf16_supported(),
        "mps": lambda: not torch.backends.mps.is_macos_or_newer(14, 0),
        "cpu": lambda: False,
    }
    if precision == "bf16" and lacks_bf16[device.type]():
        rule = f"be one that this {device.type} device has"
        raise Fault("execution.precision", rule, "bf16", "set execution.precision=fp32")
