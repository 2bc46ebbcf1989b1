"""What a finished run is exported as. No torch."""

import importlib.util
from collections.abc import Iterator
from typing import Literal, get_args

from pydantic import Field, field_validator

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.models.config import AnyConfig, TransformerConfig
from finscale.models.head_config import ClassesHead

__all__ = ["ExportKind", "ExportSettings", "export_faults"]

ExportKind = Literal["generative", "embedding", "onnx", "torch", "dropout"]

_ONNX = ("embedding", "onnx")
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


class ExportSettings(Record):
    """What the winner is exported as, after its evaluation.

    Parameters
    ----------
    export : tuple of str
        Any of ``onnx``, ``embedding``, ``torch``, ``dropout``, ``generative``: `finscale.training.export`.
    inference_batch_size : int
        Windows per forward pass while exports are compared with the model; they take any number themselves.
    """

    export: tuple[ExportKind, ...] = ()
    inference_batch_size: int = Field(default=128, ge=1)

    @field_validator("export")
    @classmethod
    def _each_once(cls, kinds: tuple[ExportKind, ...]) -> tuple[ExportKind, ...]:
        if len(set(kinds)) < len(kinds):
            raise Fault("training.export", "name each kind once", kinds, "remove the repetition")
        return tuple(kind for kind in get_args(ExportKind) if kind in kinds)


def export_faults(settings: ExportSettings, model: AnyConfig, *, dropout: float | None) -> Iterator[Fault]:
    """Yield why ``model`` cannot be exported as asked: what is known before it is trained.

    Parameters
    ----------
    dropout : float or None
        That it is trained with; None where that is not known yet.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    for kind in (kind for kind in settings.export if kind in _ONNX and missing):
        remedy = 'pip install "finscale[export]"'
        yield Fault(f"training.export {kind}", f"find {', '.join(missing)}", "not installed", remedy)
    if "generative" in settings.export and not _generates(model):
        rule = "have a causal transformer that predicts the next symbol"
        yield Fault("training.export generative", rule, model.family, "leave generative out")
    if "dropout" in settings.export and dropout == 0:
        rule = "have a model that was trained with dropout"
        yield Fault("training.export dropout", rule, 0.0, "leave dropout out, or search other rates")


def _generates(model: AnyConfig) -> bool:
    if not isinstance(model, TransformerConfig) or model.vocab_size is None or not model.causal:
        return False
    return model.head in (None, ClassesHead(n_classes=(model.vocab_size,)))
