"""A scaling-law laboratory for financial time-series transformers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finscale.prediction import predict, predict_with_dropout

__all__ = ["predict", "predict_with_dropout"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what scores new bars when it is first asked for: the package itself stays light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from finscale import prediction

    return getattr(prediction, name)
