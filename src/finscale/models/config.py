"""The model configurations: one frozen record per family, joined in a tagged union. No torch here."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults, suggest

__all__ = ["MODEL_CONFIGS", "ModelConfig", "PatchTSTConfig", "TransformerConfig", "parse_model_config"]

Dropout = Annotated[float, Field(ge=0, lt=1)]


class PatchTSTConfig(Record):
    """Patched encoder over real-valued bars (pre-norm LayerNorm, GELU, biases, learned positions).

    Parameters
    ----------
    d_model, n_layers, n_heads, d_ff : int
        Width, depth, heads (a divisor of d_model) and feed-forward width.
    patch_length, stride : int
        Bars per patch and bars between two patch starts; a token is patch_length x F values.
    pooling : str
        How P tokens become the head's input: ``mean``, ``last``, ``cls`` (a learned extra token), or
        ``flatten`` (the head reads all P x D values).
    dropout : float
        On the embedded tokens and on both branches of every block; not on attention weights.

    Notes
    -----
    Nie et al. 2023, "A Time Series is Worth 64 Words", with mixed channels.
    """

    family: Literal["patchtst"] = "patchtst"
    d_model: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    d_ff: PositiveInt
    patch_length: PositiveInt = 10
    stride: PositiveInt = 5
    pooling: Literal["mean", "flatten", "last", "cls"] = "mean"
    dropout: Dropout = 0.15

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        raise_faults(_head_faults(self.d_model, self.n_heads))
        return self


class TransformerConfig(Record):
    """Causal decoder over symbols (pre-norm LayerNorm, GELU, biases, untied output layer).

    Parameters
    ----------
    vocab_size : int
        Number of symbols, in and out.
    d_model, n_layers, n_heads, d_ff : int
        Width, depth, heads (a divisor of d_model) and feed-forward width.
    positions : str
        ``rope`` (rotary; needs an even d_head) or ``none`` (the causal mask only).
    rope_base : float
        Base of the rotary frequencies, base ** (-2 i / d_head).
    conv_taps : int
        Taps of the causal depthwise convolution before attention; 0 leaves it out.
    dropout : float
        On the embedded symbols and on both branches of every block; not on attention weights.
    """

    family: Literal["transformer"] = "transformer"
    vocab_size: PositiveInt
    d_model: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    d_ff: PositiveInt
    positions: Literal["none", "rope"] = "rope"
    rope_base: PositiveFloat = 10_000.0
    conv_taps: Annotated[int, Field(ge=0)] = 3
    dropout: Dropout = 0.0

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        raise_faults(_head_faults(self.d_model, self.n_heads))
        return self

    @model_validator(mode="after")
    def _positions_are_possible(self) -> Self:
        if self.positions == "rope" and (self.d_model // self.n_heads) % 2:
            got = f"d_model={self.d_model}, n_heads={self.n_heads}"
            remedy = "change n_heads or choose positions=none"
            raise Fault("d_head", "be even under positions=rope", got, remedy)
        if self.positions == "none" and self.rope_base != type(self).model_fields["rope_base"].default:
            raise Fault("rope_base", "be left out unless positions=rope", self.rope_base, "remove it")
        return self


ModelConfig = Annotated[PatchTSTConfig | TransformerConfig, Field(discriminator="family")]

MODEL_CONFIGS: dict[str, type[PatchTSTConfig] | type[TransformerConfig]] = {
    "patchtst": PatchTSTConfig,
    "transformer": TransformerConfig,
}


def parse_model_config(
    values: Mapping[str, Any], *, subject: str = "model"
) -> PatchTSTConfig | TransformerConfig:
    """Read a model config of any family; every fault is raised at once.

    Parameters
    ----------
    values : mapping
        Plain values with their ``family``, as read from YAML, JSON or a grid row.
    subject : str
        Prefix of the field names in messages.

    Raises
    ------
    FinscaleError
        With one line per fault.

    Examples
    --------
    >>> parse_model_config(dict(family="patchtst", d_model=16, n_layers=2, n_heads=2, d_ff=32)).pooling
    'mean'
    """
    family = values.get("family")
    if family not in MODEL_CONFIGS:
        raise Fault(f"{subject}.family", "name a known model", family, suggest(str(family), MODEL_CONFIGS))
    return MODEL_CONFIGS[family].read(values, subject=subject)


def _head_faults(d_model: int, n_heads: int) -> list[Fault]:
    if d_model % n_heads == 0:
        return []
    got = f"n_heads={n_heads}, d_model={d_model}"
    near = [heads for heads in range(1, d_model + 1) if d_model % heads == 0]
    remedy = f"try n_heads={min(near, key=lambda heads: abs(heads - n_heads))}"
    return [Fault("n_heads", "divide d_model", got, remedy)]
