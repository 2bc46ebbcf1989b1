"""Change one setting and nothing else."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, suggest

__all__ = ["Ablation", "overlaid"]


class Ablation(Record):
    """Modes that are equal but for one setting.

    Parameters
    ----------
    of : dict
        What all of them change in the block's model.
    setting : str
        The one that differs, dotted: ``positions.constant``.
    values : dict
        What it is, by the name of the mode.
    """

    of: dict[str, Any] = Field(default_factory=dict)
    setting: str
    values: dict[str, Any] = Field(min_length=2)

    def settings(self, model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return what every mode is, out of what all models of the block share."""
        base = overlaid(model, self.of)
        return {name: _with(base, self.setting.split("."), value) for name, value in self.values.items()}

    def only(self, name: str) -> Self:
        """Return the ablation with one value, for a run of it alone.

        Raises
        ------
        Fault
            When there is no such value.
        """
        if name not in self.values:
            raise Fault("ablation_value", "be a value of the ablation", name, suggest(name, self.values))
        return self.model_copy(update={"values": {name: self.values[name]}})

    @model_validator(mode="before")
    @classmethod
    def _name_listed_values(cls, given: Any) -> Any:
        """Read a list of values as modes of these names."""
        if isinstance(given, Mapping) and isinstance(given.get("values"), list | tuple):
            return {**given, "values": {str(value): value for value in given["values"]}}
        return given


def overlaid(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with others on top; a group that is changed is replaced whole."""
    return {**settings, **changes}


def _with(settings: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    inner = settings.get(first)
    held = inner if isinstance(inner, Mapping) else {}
    return {**settings, first: _with(held, rest, value) if rest else value}
