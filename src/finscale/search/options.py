"""What the row dimensions of a space stand for: a model's config, and what it reads of the windows."""

from collections.abc import Mapping
from typing import Any

from finscale.archgrid.base import GridConfig
from finscale.models.config import TransformerConfig
from finscale.search.space_names import DATA_NAMES, row_names
from finscale.windows.view import WindowView

__all__ = ["read_config", "same_model", "values_in", "view_of"]


def read_config(base: GridConfig, values: Mapping[str, Any]) -> GridConfig:
    """Return ``base`` with row dimensions; what is no dimension of its family is not looked at.

    An ``n_kv_heads`` that does not divide n_heads becomes n_heads: every head has keys of its own.

    Raises
    ------
    FinscaleError
        When the model does not accept them together.
    """
    names = [name for name in row_names(base.family) if name in values and name not in DATA_NAMES]
    read = {**base.model_dump(mode="json"), **{name: values[name] for name in names}}
    if "rope_base" in names and isinstance(read["positions"], Mapping):
        read["positions"] = {name: value for name, value in read["positions"].items() if name != "base"}
    n_kv_heads = read.get("n_kv_heads")
    if "n_kv_heads" in names and n_kv_heads and read["n_heads"] % n_kv_heads:
        read["n_kv_heads"] = read["n_heads"]
    return type(base).read(read)


def values_in(config: GridConfig) -> dict[str, Any]:
    """Return the row dimensions that a config decides, as plain values."""
    plain = config.model_dump(mode="json")
    return {**plain, "rope_base": getattr(config.positions, "base", None)}


def view_of(
    values: Mapping[str, Any], *, features: tuple[str, ...], context_length: int
) -> WindowView | None:
    """Return what is read of windows with these features and context; None where that is all.

    Parameters
    ----------
    values : mapping
        Row dimensions; a ``features`` or ``context_length`` that is absent is not searched.
    """
    asked, length = values.get("features"), values.get("context_length")
    chosen = None if asked is None else tuple(sorted(asked, key=features.index))
    view = WindowView(
        features=None if chosen == features else chosen,
        context_length=None if length == context_length else length,
    )
    return None if view == WindowView() else view


def same_model(config: GridConfig) -> GridConfig:
    """Return the plainest config of the same model: keys grouped by one, or by all, are no groups."""
    if not isinstance(config, TransformerConfig) or config.attention != "gqa":
        return config
    plain = {config.n_heads: "mha", 1: "mqa"}.get(config.n_kv_heads or 0, "gqa")
    kept = config.n_kv_heads if plain == "gqa" else None
    return config.model_copy(update={"attention": plain, "n_kv_heads": kept})
