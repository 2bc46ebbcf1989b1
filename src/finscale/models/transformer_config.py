"""The configuration of the general sequence model. No torch here.

T tokens, D d_model, C outputs.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.models.attractor_config import AttractorConfig, ContentKeys
from finscale.models.head_config import ForecastHead, HeadConfig, LogitsHead
from finscale.models.position_config import PositionConfig, RopeConfig
from finscale.models.position_counts import position_faults, turns_pairs

__all__ = ["Dropout", "TransformerConfig", "head_faults"]

Dropout = Annotated[float, Field(ge=0, lt=1)]

_ROTARY = ("rope", "yarn", "hybrid")


def _is_off(value: Any) -> bool:
    """Whether an option is off; it then leaves no trace in records, whose hashes are those before it."""
    return not value


class TransformerConfig(Record):
    """Encoder or causal decoder over symbols or bars.

    Parameters
    ----------
    vocab_size : int or None
        Number of symbols, in and out. None means that a token is a bar: the F real-valued columns of a
        window, its categorical columns, or both.
    d_model, n_layers, n_heads, d_ff : int
        Width, depth, heads (a divisor of d_model) and feed-forward width.
    positions : PositionConfig
        Any kind of the registry. A bare kind may be written as a word: ``rope`` (the default) or ``none``
        (the causal mask only). ``rope_base`` beside it is read as the ``base`` of the positions.
    conv_taps : int
        Taps of the causal depthwise convolution before attention; 0 leaves it out.
    dropout : float
        On the embedded tokens and on both branches of every block; not on attention weights.
    causal : bool
        Decoder (a token sees itself and the past) or encoder (it sees all).
    attention : str
        ``mha``, ``mqa`` (one head of keys and values) or ``gqa`` (``n_kv_heads`` of them).
    n_kv_heads : int or None
        Heads of keys and values under ``gqa``, a divisor of n_heads.
    activation : str
        ``gelu``, ``relu`` or ``swiglu`` (whose gate is a third map of d_model x d_ff).
    norm, norm_first : str, bool
        ``layer_norm`` or ``rms_norm``; before each branch and once after the last block, or after each sum.
    bias : bool
        Whether the linear maps of a block carry biases.
    window_size : int or None
        Tokens that a token of a decoder sees at most, itself and those just before it. A stack of layers, and
        the convolution, reach further back through what those have seen.
    n_sinks : int
        First tokens of a sequence that stay visible however far behind the window they are (Xiao et al.
        2024, StreamingLLM, whose sinks move with the window; these keep their positions).
    attractor : AttractorConfig or None
        A decayed state of constant size beside attention, in some layers of a decoder. Its output starts at
        zero, so that a model with it starts equal to the one without.
    prediction_length : int or None
        Over symbols: at how many of the last positions the next symbol is predicted; None means at all. Over
        bars: the steps of a forecast head, each read from one of the last positions; None reads the whole
        prediction from the last one.
    head : HeadConfig or None
        What is predicted of a window. None is the next symbol over symbols, and logits over bars.
    categories : tuple of int
        Number of values of each categorical column of a bar.
    feature_embedding_dims : tuple of int
        Width of the embedding of each categorical column.
    initial_embedding_dim : int or None
        Width of all columns of a bar side by side; what the categorical ones leave is the width of a linear
        map of the real-valued ones. None means d_model.
    joint_embedding_dim : int or None
        Width, d_model, of a linear map that mixes the columns; None leaves it out, and initial_embedding_dim
        must then be d_model.
    """

    family: Literal["transformer"] = "transformer"
    vocab_size: PositiveInt | None = None
    d_model: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    d_ff: PositiveInt
    positions: PositionConfig = RopeConfig()
    conv_taps: Annotated[int, Field(ge=0)] = 3
    dropout: Dropout = 0.0
    causal: bool = True
    attention: Literal["mha", "mqa", "gqa"] = "mha"
    n_kv_heads: PositiveInt | None = None
    activation: Literal["gelu", "relu", "swiglu"] = "gelu"
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    norm_first: bool = True
    bias: bool = True
    window_size: PositiveInt | None = None
    n_sinks: Annotated[int, Field(ge=0, exclude_if=_is_off)] = 0
    attractor: Annotated[AttractorConfig | None, Field(exclude_if=_is_off)] = None
    prediction_length: PositiveInt | None = None
    head: HeadConfig | None = None
    categories: tuple[PositiveInt, ...] = ()
    feature_embedding_dims: tuple[PositiveInt, ...] = ()
    initial_embedding_dim: PositiveInt | None = None
    joint_embedding_dim: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_words(cls, values: Any) -> Any:
        """Read ``positions=rope, rope_base=500`` as positions of that kind and base."""
        if not isinstance(values, Mapping):
            return values
        read, positions = dict(values), values.get("positions", "rope")
        if isinstance(positions, str):
            read["positions"] = positions = {"kind": positions}
        if "rope_base" in values:
            read["positions"] = _with_base(positions, read.pop("rope_base"))
        return read

    @model_validator(mode="after")
    def _shape_is_possible(self) -> Self:
        heads = head_faults(self.d_model, self.n_heads)
        width = {"d_model": self.d_model, "n_heads": self.n_heads}
        possible = heads or position_faults(self.positions, **width)
        stream = [*self._kv_faults(), *self._decoder_faults(), *self._attractor_faults()]
        raise_faults([*possible, *stream, *self._column_faults()])
        return self

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values under any kind of attention."""
        return {"mha": self.n_heads, "mqa": 1}.get(self.attention, self.n_kv_heads or self.n_heads)

    @property
    def injected_layers(self) -> tuple[int, ...]:
        """Layers that have an attractor."""
        return () if self.attractor is None else self.attractor.injected(self.n_layers)

    @property
    def reads_masks(self) -> bool:
        """Whether windows may hold padding."""
        return True

    @property
    def predicts_symbols(self) -> bool:
        """Whether the output is the next symbol."""
        return self.vocab_size is not None and self.head is None

    @property
    def window_head(self) -> HeadConfig:
        """The head of a window, wherever it is not the next symbol that is predicted."""
        return LogitsHead() if self.head is None else self.head

    @property
    def initial_width(self) -> int:
        """Width of all columns of a bar side by side."""
        return self.d_model if self.initial_embedding_dim is None else self.initial_embedding_dim

    @property
    def real_embedding_dim(self) -> int:
        """Width of the linear map of the real-valued columns; 0 where there are none, or over symbols."""
        return 0 if self.vocab_size else self.initial_width - sum(self.feature_embedding_dims)

    def _kv_faults(self) -> Iterator[Fault]:
        if self.attention != "gqa" and self.n_kv_heads is not None:
            yield Fault("n_kv_heads", "be left out unless attention=gqa", self.n_kv_heads, "remove it")
        elif self.attention == "gqa" and self.n_heads % (self.n_kv_heads or self.n_heads + 1):
            got = f"n_kv_heads={self.n_kv_heads}, n_heads={self.n_heads}"
            near = [heads for heads in range(1, self.n_heads + 1) if self.n_heads % heads == 0]
            remedy = f"use one of {near}"
            yield Fault("n_kv_heads", "divide n_heads under attention=gqa", got, remedy)

    def _decoder_faults(self) -> Iterator[Fault]:
        if self.window_size is not None and not self.causal:
            yield Fault("window_size", "be left out under causal=false", self.window_size, "remove it")
        if self.n_sinks and self.window_size is None:
            rule = "be left out without window_size, where every token stays visible"
            yield Fault("n_sinks", rule, self.n_sinks, "remove it")
        if self.predicts_symbols and not self.causal and self.prediction_length != 1:
            rule = "be 1 for the next symbol under causal=false, where other positions see their answer"
            yield Fault("prediction_length", rule, self.prediction_length, "try prediction_length=1")
        horizon = self.head.horizon if isinstance(self.head, ForecastHead) else None
        if (
            self.prediction_length is not None
            and not self.predicts_symbols
            and horizon != self.prediction_length
        ):
            rule = "be the horizon of a forecast head, or be left out"
            got = (
                f"prediction_length={self.prediction_length}, head={self.window_head.kind}, horizon={horizon}"
            )
            yield Fault("prediction_length", rule, got)

    def _attractor_faults(self) -> Iterator[Fault]:
        if self.attractor is None:
            return
        if not self.causal:
            yield Fault("attractor", "be left out under causal=false", "an attractor", "remove it")
        beyond = [layer for layer in self.attractor.layers if layer >= self.n_layers]
        if beyond:
            yield Fault("attractor.layers", f"lie below n_layers={self.n_layers}", beyond, "remove them")
        keys = self.attractor.keys
        if isinstance(keys, ContentKeys) and keys.rotated and not turns_pairs(self.positions):
            rule = "be left out unless positions turn pairs"
            yield Fault("attractor.keys.rotated", rule, f"positions={self.positions.kind}", "remove it")

    def _column_faults(self) -> Iterator[Fault]:
        columns = ("categories", "feature_embedding_dims", "initial_embedding_dim", "joint_embedding_dim")
        if self.vocab_size is not None:
            given = [name for name in columns if getattr(self, name)]
            rule = "be left out over symbols (vocab_size)"
            yield from (Fault(name, rule, getattr(self, name), "remove it") for name in given)
            return
        if len(self.categories) != len(self.feature_embedding_dims):
            got = f"feature_embedding_dims={self.feature_embedding_dims}, categories={self.categories}"
            yield Fault("feature_embedding_dims", "have one width per column of categories", got)
        if self.real_embedding_dim < 0:
            got = f"feature_embedding_dims={self.feature_embedding_dims}, initial width {self.initial_width}"
            yield Fault("feature_embedding_dims", "fit into initial_embedding_dim", got, "make it wider")
        name = "initial_embedding_dim" if self.joint_embedding_dim is None else "joint_embedding_dim"
        last = self.initial_width if self.joint_embedding_dim is None else self.joint_embedding_dim
        if last != self.d_model:
            got = f"{name}={last}, d_model={self.d_model}"
            yield Fault(name, "be d_model, the width of a token", got, f"try {name}={self.d_model}")


def head_faults(d_model: int, n_heads: int) -> list[Fault]:
    """Return what is wrong with a number of heads; an empty list when it divides the width."""
    if d_model % n_heads == 0:
        return []
    got = f"n_heads={n_heads}, d_model={d_model}"
    near = [heads for heads in range(1, d_model + 1) if d_model % heads == 0]
    remedy = f"try n_heads={min(near, key=lambda heads: abs(heads - n_heads))}"
    return [Fault("n_heads", "divide d_model", got, remedy)]


def _with_base(positions: Any, rope_base: Any) -> dict[str, Any]:
    """Return positions of that base; refuse a base that nothing would read, or two of them."""
    plain = dict(positions) if isinstance(positions, Mapping) else positions.model_dump(exclude_unset=True)
    if not str(plain.get("kind", "rope")).startswith(_ROTARY):
        raise Fault("rope_base", "be left out unless positions=rope", rope_base, "remove it")
    if "base" in plain:
        raise Fault("rope_base", "be left out beside positions.base", rope_base, "remove one of them")
    return {"kind": "rope", **plain, "base": rope_base}
