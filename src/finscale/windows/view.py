"""What a run reads of windows that were built once: some of their features, a shorter context.

Origins, targets and moments stay, so that everything that reads a view is scored on the same rows.
F features.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from pydantic import PositiveInt, field_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults, suggest
from finscale.windows.data import WindowData
from finscale.windows.spec import WindowSpec
from finscale.windows.standardize import Standardizer

__all__ = ["WindowView", "hide_older", "view_windows"]


class WindowView(Record):
    """A part of windows; what is None is read whole.

    Parameters
    ----------
    features : tuple of str or None
        Real-valued columns that are read, in this order.
    context_length : int or None
        Bars that are read, the origin included.
    """

    features: tuple[str, ...] | None = None
    context_length: PositiveInt | None = None

    @field_validator("features")
    @classmethod
    def _each_once(cls, features: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if features is not None and (not features or len(set(features)) < len(features)):
            raise Fault("view.features", "name at least one feature, each once", list(features))
        return features

    def sizes(self, *, n_features: int, context_length: int) -> dict[str, int]:
        """Return F and T of the view of windows that have these."""
        return {
            "n_features": n_features if self.features is None else len(self.features),
            "context_length": self.context_length or context_length,
        }

    def faults(self, *, features: tuple[str, ...], context_length: int) -> Iterator[Fault]:
        """Yield why windows with these features and context cannot be read so."""
        for name in self.features or ():
            if name not in features:
                yield Fault("view.features", "be features of the windows", name, suggest(name, features))
        if (self.context_length or 0) > context_length:
            rule = f"be at most the {context_length} bars that the windows show"
            remedy = f"build longer windows: data.context_length={self.context_length}"
            yield Fault("view.context_length", rule, self.context_length, remedy)


def view_windows(data: WindowData, view: WindowView | None) -> WindowData:
    """Return ``data`` as ``view`` reads it; a view of a view is itself.

    Fewer features are a copy in memory, of memory-mapped values too.

    Raises
    ------
    FinscaleError
        When the windows lack a feature, show fewer bars, or forecast a feature that the view leaves out.
    """
    if view is None:
        return data
    spec = data.spec
    raise_faults(
        [*view.faults(features=spec.features, context_length=spec.context_length), *_unseen(spec, view)]
    )
    length = view.context_length or spec.context_length
    shortest = min(length, spec.min_context_length)
    shorter = dataclasses.replace(
        data, spec=spec.model_copy(update={"context_length": length, "min_context_length": shortest})
    )
    return shorter if view.features in (None, spec.features) else _columns(shorter, view.features)


def hide_older(data: WindowData, *, n_shown: int) -> WindowData:
    """Return ``data`` with contexts as long as before, of which all but the last bars are masked.

    Parameters
    ----------
    n_shown : int
        Bars that stay visible, the origin included; positive.
    """
    assert n_shown > 0
    starts = np.arange(len(data.dates)) - (n_shown - 1)
    shortest = min(n_shown, data.spec.min_context_length)
    return dataclasses.replace(
        data,
        context_starts=np.maximum(data.context_starts, starts),
        spec=data.spec.model_copy(update={"min_context_length": shortest}),
    )


def _unseen(spec: WindowSpec, view: WindowView) -> Iterator[Fault]:
    """Forecast columns are next rows of the features themselves."""
    forecast = set(spec.target_columns) & set(spec.features)
    missing = sorted(forecast - set(view.features or spec.features))
    if missing:
        rule = f"hold what is forecast ({' '.join(missing)})"
        yield Fault("view.features", rule, list(view.features or ()), "add it")


def _columns(data: WindowData, features: tuple[str, ...]) -> WindowData:
    places = [data.spec.features.index(name) for name in features]
    moments = data.standardizer
    return dataclasses.replace(
        data,
        values=np.ascontiguousarray(data.values[:, places]),
        spec=data.spec.model_copy(update={"features": features}),
        standardizer=Standardizer(mean=moments.mean[places], std=moments.std[places]),
    )
