"""Choose the micro-batch that fits a device, and how many make one optimizer step; no torch at import.

B micro_batch_size, T context_length, F features.
"""

import functools
import re
from collections.abc import Callable
from typing import Literal, Self

from pydantic import PositiveInt, TypeAdapter, field_validator, model_validator

from finscale.archgrid.memory import DeviceType, Precision, predict_memory
from finscale.core.config import Record
from finscale.core.errors import Fault, suggest
from finscale.core.hashing import content_hash
from finscale.models.config import AnyConfig, ModelConfig
from finscale.models.counting import arch_id

__all__ = ["BatchConfig", "BatchProvider", "BatchRequest", "choose_batch", "measured_batch"]
__all__ += ["split_batch", "table_batch"]

BatchProvider = Literal["measured", "table"]

_HEADROOM = 0.9
"""Share of the free memory that a predicted peak may fill."""

_PLAINLY_SMALL = 0.25
"""Share of a CPU's free memory under which a predicted peak needs no real step to be believed."""

_TABLE = ((0.05, 128), (0.2, 64), (0.5, 32))
"""Micro-batch below each memory score; up to 1.0 it is 16, beyond that 8."""


class BatchConfig(Record):
    """How one optimizer step is made: `accumulation_steps` micro-batches, the last one perhaps smaller.

    Their windows add up to exactly `effective_batch_size`. Under `activation_checkpointing` a block keeps its
    input alone and is computed again by the backward pass: the same numbers, a third more work.
    """

    micro_batch_size: PositiveInt
    accumulation_steps: PositiveInt
    effective_batch_size: PositiveInt
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _parts_make_the_whole(self) -> Self:
        micro, effective = self.micro_batch_size, self.effective_batch_size
        needed = -(-effective // micro)
        if micro > effective or self.accumulation_steps != needed:
            got = f"{self.accumulation_steps} x {micro} for {effective}"
            remedy = f"use {needed} x {min(micro, effective)}"
            raise Fault("accumulation_steps", "be ceil(effective_batch_size / micro_batch_size)", got, remedy)
        return self


class BatchRequest(Record):
    """What a provider may look at.

    Parameters
    ----------
    config : ModelConfig
        The model, with its dropout.
    n_features, context_length, n_outputs : int
        F, T and C.
    effective_batch_size : int
        Windows per optimizer step.
    device : str
        As torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    precision : str
        ``fp32``, or ``bf16`` or ``fp16`` (autocast).
    n_sharing : int
        Trainings that share the device's memory evenly, this one included.
    """

    config: ModelConfig
    n_features: PositiveInt
    context_length: PositiveInt
    n_outputs: PositiveInt = 1
    effective_batch_size: PositiveInt = 128
    device: str = "cpu"
    precision: Precision = "fp32"
    n_sharing: PositiveInt = 1

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        if re.fullmatch(r"cpu|mps|cuda(:\d+)?", device) is None:
            raise Fault("device", "be cpu, mps, cuda or cuda:<index>", device)
        return device

    @property
    def sizes(self) -> dict[str, int]:
        """F, T and C by name."""
        names = ("n_features", "context_length", "n_outputs")
        return {name: getattr(self, name) for name in names}

    @property
    def device_type(self) -> DeviceType:
        """The kind of device, without its index."""
        return TypeAdapter(DeviceType).validate_python(self.device.partition(":")[0])


def choose_batch(
    provider: BatchProvider,
    config: AnyConfig,
    *,
    n_features: int,
    context_length: int,
    n_outputs: int = 1,
    effective_batch_size: int = 128,
    device: str = "cpu",
    precision: Precision = "fp32",
    n_sharing: int = 1,
) -> BatchConfig:
    """Return the batch configuration of ``provider``.

    Parameters
    ----------
    provider : str
        ``measured`` (memory model, then one real step on the device) or ``table`` (by size alone; it looks
        at neither the device nor the windows).
    config, n_features, context_length, n_outputs, effective_batch_size, device, precision, n_sharing
        See `BatchRequest`.

    Raises
    ------
    Fault
        For an unknown provider or device, or when not even one window fits the device.
    """
    if provider not in _PROVIDERS:
        raise Fault("batch provider", "be a known one", provider, suggest(provider, _PROVIDERS))
    fields = {
        "config": config,
        "n_features": n_features,
        "context_length": context_length,
        "n_outputs": n_outputs,
        "effective_batch_size": effective_batch_size,
        "device": device,
        "precision": precision,
        "n_sharing": n_sharing,
    }
    return _PROVIDERS[provider](BatchRequest.read(fields))


def split_batch(
    micro_batch_size: int, *, effective_batch_size: int, activation_checkpointing: bool = False
) -> BatchConfig:
    """Return the configuration of a micro-batch, cut to the effective batch.

    Examples
    --------
    >>> split_batch(48, effective_batch_size=128).accumulation_steps
    3
    """
    micro = min(micro_batch_size, effective_batch_size)
    return BatchConfig(
        micro_batch_size=micro,
        accumulation_steps=-(-effective_batch_size // micro),
        effective_batch_size=effective_batch_size,
        activation_checkpointing=activation_checkpointing,
    )


def table_batch(*, d_model: int, n_layers: int, effective_batch_size: int = 128) -> BatchConfig:
    """Return the published table's choice, by the memory score d_model**2 * n_layers / 1e9.

    The score cannot tell a wide model from a deep one, whose activations are far larger.

    Examples
    --------
    >>> table_batch(d_model=1024, n_layers=160).micro_batch_size
    64
    """
    score = d_model**2 * n_layers / 1e9
    largest = 16 if score <= 1.0 else 8
    micro = next((size for bound, size in _TABLE if score < bound), largest)
    return split_batch(micro, effective_batch_size=effective_batch_size)


def measured_batch(request: BatchRequest) -> BatchConfig:
    """Return the largest halving of the effective batch that fits the device.

    Of several trainings that share it each has an even part of what was free when the first asked. The memory
    model rules out what cannot fit; then one training step of the real model is run, and halved
    again for as long as the device runs out of memory. Where not even one window fits, the same is done with
    activation checkpointing. On a CPU with plenty of free memory the model's word is enough. The answer is
    kept for the life of the process.

    Raises
    ------
    Fault
        When not even one window fits with activation checkpointing.
    """
    key = _key(request)
    if key not in _measured:
        _measured[key] = _measure(request)
    return _measured[key]


_measured: dict[str, BatchConfig] = {}


def _key(request: BatchRequest) -> str:
    """Return the hash of the request, its architecture by ``arch_id``, and whether dropout keeps masks."""
    sizes = {"n_features": request.n_features, "context_length": request.context_length}
    rest = request.model_dump(exclude={"config"})
    return content_hash(arch_id(request.config, **sizes), getattr(request.config, "dropout", 0) > 0, rest)


def _measure(request: BatchRequest) -> BatchConfig:
    for checkpointing in _ways(request.config):
        if micro := _largest(request, checkpointing):
            effective = request.effective_batch_size
            return split_batch(micro, effective_batch_size=effective, activation_checkpointing=checkpointing)
    raise _too_large(request)


def _ways(config: AnyConfig) -> tuple[bool, ...]:
    """Without activation checkpointing first; a model without blocks has nothing to compute again."""
    return (False, True) if hasattr(config, "n_layers") else (False,)


def _largest(request: BatchRequest, checkpointing: bool) -> int:
    """Return the largest halving that fits, 0 when none does."""
    from finscale.archgrid.probe import step_fits

    predicted = functools.partial(_predicted_to_fit, request, activation_checkpointing=checkpointing)
    micro = _halve_until(predicted, request.effective_batch_size)
    if micro == 0 or _is_plainly_small(request, micro, checkpointing):
        return micro
    return _halve_until(functools.partial(step_fits, request, activation_checkpointing=checkpointing), micro)


def _halve_until(fits: Callable[[int], bool], micro: int) -> int:
    while micro and not fits(micro):
        micro //= 2
    return micro


def _predicted_to_fit(request: BatchRequest, micro: int, *, activation_checkpointing: bool) -> bool:
    return _predicted(request, micro, activation_checkpointing) <= _HEADROOM * _allowed_bytes(request)


def _allowed_bytes(request: BatchRequest) -> float:
    """Bytes that one of several trainings may take: an even share of what was free before the first began."""
    from finscale.archgrid.probe import free_bytes

    free = free_bytes(request.device)
    if request.n_sharing == 1:
        return free
    at_first = _free_at_first.setdefault(request.device, free)
    return min(free, at_first / request.n_sharing)


_free_at_first: dict[str, float] = {}


def _is_plainly_small(request: BatchRequest, micro: int, checkpointing: bool) -> bool:
    """On a CPU the memory model is within 25 %; a step there costs time that running trials need."""
    on_cpu = request.device.startswith("cpu")
    return on_cpu and _predicted(request, micro, checkpointing) <= _PLAINLY_SMALL * _allowed_bytes(request)


def _predicted(request: BatchRequest, micro: int, checkpointing: bool) -> int:
    return predict_memory(
        request.config,
        **request.sizes,
        micro_batch_size=micro,
        precision=request.precision,
        device_type=request.device_type,
        activation_checkpointing=checkpointing,
    ).total


def _too_large(request: BatchRequest) -> Fault:
    needed, free = _predicted(request, 1, _ways(request.config)[-1]), _allowed_bytes(request)
    shared = f" for each of {request.n_sharing} trainings" if request.n_sharing > 1 else ""
    got = f"{needed / 2**30:.2f} GiB predicted for one window and {free / 2**30:.2f} GiB free{shared}"
    return Fault("model", f"fit {request.device}", got, "choose a smaller budget or a larger device")


_PROVIDERS: dict[str, Callable[[BatchRequest], BatchConfig]] = {
    "measured": measured_batch,
    "table": lambda request: table_batch(
        d_model=getattr(request.config, "d_model", 0),  # a model without blocks is small
        n_layers=getattr(request.config, "n_layers", 0),
        effective_batch_size=request.effective_batch_size,
    ),
}
