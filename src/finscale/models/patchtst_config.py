"""The configuration of PatchTST. No torch here."""

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.models.head_config import ForecastHead, HeadConfig, LogitsHead
from finscale.models.position_config import LearnedConfig, PositionConfig
from finscale.models.position_counts import position_faults
from finscale.models.transformer_config import Dropout, head_faults

__all__ = ["PatchTSTConfig"]

Channels = Literal["mixed", "independent"]
InstanceNormKind = Literal["none", "revin", "revin_affine"]
Norm = Literal["layer_norm", "rms_norm", "batch_norm"]
Pooling = Literal["mean", "flatten", "last", "cls"]


class PatchTSTConfig(Record):
    """Patched encoder over real-valued bars (GELU feed-forward, biases).

    Parameters
    ----------
    d_model, n_layers, n_heads, d_ff : int
        Width, depth, heads (a divisor of d_model) and feed-forward width.
    patch_length, stride : int
        Bars per patch and bars between two patch starts.
    pooling : str
        How P tokens become the head's input: ``mean``, ``last``, ``cls`` (a learned extra token), or
        ``flatten`` (the head reads all P x D values).
    dropout : float
        On the embedded tokens and on both branches of every block; not on attention weights.
    channels : str
        ``mixed``: a token is one patch of all F features. ``independent``: every feature is a sequence of its
        own under shared weights; a forecast head then maps each channel by itself, every other head reads
        them all.
    pad_end : bool
        Whether the last bar repeats ``stride`` times, so that one more patch is read.
    instance_norm : str
        ``revin`` standardises every window and feature by its own moments, ``revin_affine`` learns a weight
        and bias per feature on top. Only a forecast is put back on the window's scale.
    norm, norm_first : str, bool
        Norm of every block, and whether it precedes attention and feed-forward (a last norm then follows the
        blocks) or follows their sum.
    positions : PositionConfig
        Any kind of the registry; a calendar is read at the last bar of every patch, and added codes leave the
        ``cls`` token alone.
    head_dropout : float
        On what the head reads.
    head_per_channel : bool
        Whether every channel has a forecast map of its own (independent channels).
    initialisation : str
        First weights: ``scaled`` to width and depth, or as ``torch`` starts a linear map.
    head : HeadConfig
        What is predicted.

    Notes
    -----
    Padding (``Batch.mask``) counts for nothing: not in the moments of ``instance_norm``, and as 0 in a patch
    that holds real bars beside it. A patch of padding alone is never attended to, is left out of ``mean``, is
    zero under ``flatten``; ``last`` is the last patch with a real bar. A window without one is read as zeros.
    The moments of ``batch_norm`` cannot leave padding out, so under it a mask is refused.

    Nie et al. 2023, "A Time Series is Worth 64 Words". Published: independent channels, pad_end, batch_norm
    after the sum, revin, flatten, a shared head, torch's first weights. The published attention also hands
    its scores on from layer to layer; ours does not.
    """

    family: Literal["patchtst"] = "patchtst"
    d_model: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    d_ff: PositiveInt
    patch_length: PositiveInt = 10
    stride: PositiveInt = 5
    pooling: Pooling = "mean"
    dropout: Dropout = 0.15
    channels: Channels = "mixed"
    pad_end: bool = False
    instance_norm: InstanceNormKind = "none"
    norm: Norm = "layer_norm"
    norm_first: bool = True
    positions: PositionConfig = LearnedConfig()
    head_dropout: Dropout = 0.0
    head_per_channel: bool = False
    initialisation: Literal["scaled", "torch"] = "scaled"
    head: HeadConfig = LogitsHead()

    @model_validator(mode="after")
    def _shape_is_possible(self) -> Self:
        heads = head_faults(self.d_model, self.n_heads)
        width = {"d_model": self.d_model, "n_heads": self.n_heads}
        raise_faults([*(heads or position_faults(self.positions, **width)), *self._unread_options()])
        return self

    def _unread_options(self) -> Iterator[Fault]:
        """Options that the others leave without effect."""
        forecast = isinstance(self.head, ForecastHead)
        if self.head_per_channel and not (forecast and self.channels == "independent"):
            rule = "be left out unless channels=independent and head.kind=forecast"
            got = f"channels={self.channels}, head.kind={self.head.kind}"
            yield Fault("head_per_channel", rule, got, "remove it")
        if isinstance(self.head, ForecastHead) and self.head.columns is not None and not self.ties_columns:
            rule = "be left out unless channels=independent or instance_norm is set"
            yield Fault("head.columns", rule, list(self.head.columns), "remove them")

    @property
    def ties_columns(self) -> bool:
        """Whether a forecast needs to know which feature each of its channels is."""
        return self.channels == "independent" or self.instance_norm != "none"

    @property
    def reads_masks(self) -> bool:
        """Whether windows may hold padding."""
        return self.norm != "batch_norm"

    def n_channels(self, n_features: int) -> int:
        """Return how many sequences one window becomes: 1 when mixed, else the features that are read.

        Independent channels that no forecast asks for are not read.
        """
        if self.channels == "mixed":
            return 1
        return self.head.n_channels if isinstance(self.head, ForecastHead) else n_features

    def columns(self, n_features: int) -> tuple[int, ...] | None:
        """Return the features a forecast is tied to, None where it is tied to none."""
        tied = isinstance(self.head, ForecastHead) and self.ties_columns
        return self.head.columns_of(n_features) if tied and isinstance(self.head, ForecastHead) else None
