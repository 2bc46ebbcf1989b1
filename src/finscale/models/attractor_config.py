"""How an attractor remembers: one frozen record, its keys and its decay tagged unions. No torch here.

``C_t = alpha C_{t-1} + e_t (x) h_t`` for every head: e key, h value. d d_model, H heads, k width of a key.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.models.position_config import Constant

__all__ = [
    "AttractorConfig",
    "ContentKeys",
    "ExpAlpha",
    "FixedAlpha",
    "LearnedAlpha",
    "PositionKeys",
    "Projected",
]

_N_INJECT = 4


class PositionKeys(Record):
    """A token is filed under its position: e_n = (cos, sin) of 2 pi frac(n c), a state of rank 2.

    Parameters
    ----------
    constant : str
        c, as in `finscale.models.position_config.PiSpiralConfig`.
    """

    kind: Literal["position"] = "position"
    constant: Constant = "pi"


class ContentKeys(Record):
    """A token is filed under a linear map of itself: decayed linear attention (Sun et al. 2023, RetNet).

    Parameters
    ----------
    rotated : bool
        Whether queries and keys turn as those of attention do; the model's positions must turn pairs.
    """

    kind: Literal["content"] = "content"
    rotated: bool = False


class ExpAlpha(Record):
    """alpha = exp(-c / N).

    Parameters
    ----------
    c : float
        What is left after N tokens is exp(-c).
    N : int
        Tokens, declared: taken from the length of a call it would change with how a stream is cut.
    """

    kind: Literal["exp_c_over_N"] = "exp_c_over_N"
    c: PositiveFloat = math.pi
    N: PositiveInt

    @property
    def log_alpha(self) -> float:
        """Natural logarithm of alpha."""
        return -self.c / self.N


class FixedAlpha(Record):
    """One alpha, given.

    Parameters
    ----------
    alpha : float
        What a token leaves of the state; 1 forgets nothing.
    """

    kind: Literal["fixed"] = "fixed"
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.99

    @property
    def log_alpha(self) -> float:
        """Natural logarithm of alpha."""
        return math.log(self.alpha)


class LearnedAlpha(Record):
    """One alpha per head, learned as the logarithm of its rate -ln alpha: it cannot leave (0, 1).

    Parameters
    ----------
    start : float
        Of every head.
    """

    kind: Literal["learned"] = "learned"
    start: Annotated[float, Field(gt=0, lt=1)] = 0.999

    @property
    def log_alpha(self) -> float:
        """Natural logarithm of alpha before training."""
        return math.log(self.start)


Keys = Annotated[PositionKeys | ContentKeys, Field(discriminator="kind")]
Alpha = Annotated[ExpAlpha | FixedAlpha | LearnedAlpha, Field(discriminator="kind")]


class Projected(NamedTuple):
    """Numbers per head that a token is mapped to: what it asks, its key and its value."""

    query: int
    key: int
    value: int


class AttractorConfig(Record):
    """A state of constant size beside attention.

    Parameters
    ----------
    keys : Keys
        ``position`` or ``content``; a bare kind may be written as a word.
    alpha : Alpha
        ``exp_c_over_N``, ``fixed`` or ``learned``; a bare kind may be written as a word.
    injection : str
        ``cross_attn``: a token asks the state by a query of its own. ``residual``: it asks by its own key.
        ``none``: the model is the plain one, whatever stands beside it (the off of an ablation).
    into : str
        Layers that have an attractor: ``last_N``, ``all`` or ``custom``.
    n_inject : int or None
        N of ``last_N``, 4 by default; all layers where there are fewer.
    layers : tuple of int
        Indices of ``custom`` layers, the first being 0.
    """

    keys: Keys = ContentKeys()
    alpha: Alpha = LearnedAlpha()
    injection: Literal["cross_attn", "residual", "none"] = "cross_attn"
    into: Literal["last_N", "all", "custom"] = "last_N"
    n_inject: PositiveInt | None = None
    layers: tuple[NonNegativeInt, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_words(cls, values: Any) -> Any:
        """Read ``keys=content`` as keys of that kind, and fill N of the last N layers."""
        if not isinstance(values, Mapping):
            return values
        read = {name: {"kind": x} if _is_kind(name, x) else x for name, x in values.items()}
        if values.get("into", "last_N") == "last_N" and values.get("n_inject") is None:
            read["n_inject"] = _N_INJECT
        return read

    @model_validator(mode="after")
    def _layers_are_named_once(self) -> Self:
        faults = []
        if self.into != "last_N" and self.n_inject is not None:
            faults.append(Fault("n_inject", "be left out unless into=last_N", self.n_inject, "remove it"))
        if self.into != "custom" and self.layers:
            faults.append(Fault("layers", "be left out unless into=custom", self.layers, "remove them"))
        if self.into == "custom" and (not self.layers or len(set(self.layers)) < len(self.layers)):
            got = self.layers or "none"
            faults.append(Fault("layers", "name layers, each once, under into=custom", got))
        raise_faults(faults)
        return self

    def injected(self, n_layers: int) -> tuple[int, ...]:
        """Return the layers, out of ``n_layers``, that have an attractor.

        Examples
        --------
        >>> AttractorConfig(n_inject=2).injected(5)
        (3, 4)
        """
        if self.injection == "none":
            return ()
        if self.into == "custom":
            return tuple(sorted(self.layers))
        return tuple(range(n_layers))[-self.n_inject if self.n_inject else 0 :]

    def key_width(self, d_head: int) -> int:
        """Return k: the cosine and sine of a position, or the width of a head."""
        return 2 if self.keys.kind == "position" else d_head

    def projected(self, d_head: int) -> Projected:
        """Return the widths of the linear map of a token, per head; what is not mapped has none."""
        k = self.key_width(d_head)
        asked = k if self.injection == "cross_attn" else 0
        return Projected(asked, k if self.keys.kind == "content" else 0, d_head)


def _is_kind(name: str, word: Any) -> bool:
    return name in ("keys", "alpha") and isinstance(word, str)
