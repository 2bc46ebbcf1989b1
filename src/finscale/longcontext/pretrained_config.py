"""Which pretrained language model is asked, what is put into it, and how it is tuned. No torch."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.models.attractor_config import AttractorConfig
from finscale.models.position_config import AnyPositionConfig, PositionConfig, RopeConfig
from finscale.training.config import TrainingConfig

__all__ = ["PretrainedConfig", "PretrainedModelConfig", "SystemConfig", "TuningConfig"]

POSITIONS = ("rope", "rope_linear", "rope_ntk", "yarn", "alibi", "none", "pi_spiral", "hybrid")
_BASE = RopeConfig().base


class PretrainedConfig(Record):
    """A checkpoint of the Qwen2 or Llama family, and how its weights are read.

    Parameters
    ----------
    model_name_or_path : str or None
        A local directory with ``config.json`` and safetensors, else a hub id; None until a user names one.
    trust_remote_code : bool
        Whether code that comes with the checkpoint may run; it then has to be named beside.
    torch_dtype : str
        Of the weights; ``auto`` takes the checkpoint's own.
    load_in_4bit, load_in_8bit : bool
        Quantise the weights by bitsandbytes while they are read; one of the two.
    attn_implementation : str or None
        Attention of transformers, ``sdpa`` by default. To be left out where the adapter brings its own: with
        a window or under alibi.
    device_map : str or None
        Of accelerate (``auto``, ``balanced``, ``sequential``, a device); None puts all on one device.
    """

    model_name_or_path: Annotated[str, Field(min_length=1)] | None = None
    trust_remote_code: bool = False
    torch_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    device_map: str | None = None

    @property
    def quantized(self) -> bool:
        """Whether weights are held in fewer bits than they compute in."""
        return self.load_in_4bit or self.load_in_8bit

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        faults = []
        if self.load_in_4bit and self.load_in_8bit:
            faults.append(Fault("load_in_4bit", "be off beside load_in_8bit", True, "choose one of the two"))
        if self.trust_remote_code and self.model_name_or_path is None:
            rule, remedy = "stand beside the model that is trusted", "add model_name_or_path"
            faults.append(Fault("trust_remote_code", rule, "true alone", remedy))
        raise_faults(faults)
        return self


class PretrainedModelConfig(Record):
    """What is changed in a checkpoint.

    Parameters
    ----------
    positions : PositionConfig
        ``rope``, the default, is the checkpoint's own, its scaling included. Of the others those that turn
        queries and keys by a table of positions alone, ``alibi`` and ``none``; the ``base`` of any is the
        checkpoint's own and left out here. A bare kind may be written as a word.
    attractor : AttractorConfig or None
        Beside the attention of the layers it names.
    """

    positions: PositionConfig = RopeConfig()
    attractor: AttractorConfig | None = None

    @field_validator("positions", mode="before")
    @classmethod
    def _read_word(cls, positions: Any) -> Any:
        return {"kind": positions} if isinstance(positions, str) else positions

    @model_validator(mode="after")
    def _positions_can_be_swapped(self) -> Self:
        positions, choices = self.positions, ", ".join(POSITIONS)
        if positions.kind not in POSITIONS:
            rule = "be exact under a cache and need no code added to the tokens of a pretrained model"
            raise Fault("positions", rule, positions.kind, f"use one of: {choices}")
        if getattr(positions, "form", "rotary") != "rotary":
            raise Fault("positions.form", "be rotary in a pretrained model", "additive", "use form=rotary")
        if getattr(positions, "gate", "") == "distance":
            remedy = "use gate=absolute_hard"
            raise Fault("positions.gate", "be absolute in a pretrained model", "distance", remedy)
        rotated = self.attractor is not None and getattr(self.attractor.keys, "rotated", False)
        if rotated and positions.kind in ("alibi", "none"):
            rule = "be left out unless positions turn pairs"
            raise Fault("attractor.keys.rotated", rule, f"positions={positions.kind}", "remove it")
        return self

    def with_base(self, base: float) -> AnyPositionConfig:
        """Return the positions with the rotary base of a checkpoint.

        Raises
        ------
        Fault
            When another base was asked for.
        """
        asked = getattr(self.positions, "base", None)
        if asked is None:
            return self.positions
        if asked not in (_BASE, base):
            raise Fault("positions.base", f"be that of the checkpoint, {base}", asked, "leave it out")
        return self.positions.model_copy(update={"base": base})


class SystemConfig(Record):
    """Where a pretrained model runs, and what it saves memory by.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``; ``auto`` under ``device_map`` or ``cpu_offload``.
    window_size : int or None
        Tokens that a token sees at most; older keys and values are evicted from the cache.
    gradient_checkpointing : bool
        Compute activations again for the gradient instead of keeping them.
    cpu_offload : bool
        Leave what the accelerator has no room for in the memory of the host.
    compile : bool
        Compile the network by torch.
    log_memory : bool
        Note the peak memory in every row of accuracy, and memory beside the exact state in ``system.csv``.
        On CUDA a row's peak is that of its answers, elsewhere that of the process until then.
    log_throughput : bool
        Note the tokens per second in every row of accuracy, and times and speeds in ``system.csv``.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    window_size: Annotated[int, Field(ge=2)] | None = None
    gradient_checkpointing: bool = False
    cpu_offload: bool = False
    compile: bool = False
    log_memory: bool = True
    log_throughput: bool = True


class TuningConfig(Record):
    """A short fine-tune after a change of positions: steps of AdamW, warm-up then cosine.

    Parameters
    ----------
    learning_rate, weight_decay, warmup_steps, clip_norm
        As in `finscale.training.config.TrainingConfig`.
    n_steps : int
        Optimizer steps.
    length : int
        Tokens of a sequence.
    batch_size : int
        Sequences of a step.
    text_file : str or None
        A UTF-8 text of the user's; None tunes on samples handed over, as the synthetic mixes.
    """

    learning_rate: PositiveFloat = 1e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    clip_norm: PositiveFloat = 1.0
    n_steps: PositiveInt
    length: Annotated[int, Field(ge=2)]
    batch_size: PositiveInt = 1
    text_file: str | None = None

    @property
    def optimizer(self) -> TrainingConfig:
        """The part that the training loop's optimizer and schedule read."""
        fields: Mapping[str, Any] = self.model_dump(
            include={"learning_rate", "weight_decay", "warmup_steps", "clip_norm"}
        )
        return TrainingConfig(epochs=1, **fields)
