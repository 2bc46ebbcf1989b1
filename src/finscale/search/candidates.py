"""The candidates of a search: every architecture of a cell's grid under every row dimension of the space.

They are settled once, before the first trial. d_model, n_layers, n_heads and d_ff choose among the rows of
the grid; options of the model (activation, norm, n_kv_heads ...) and of the data (``features``,
``context_length``) multiply them. Each candidate has its own config, its true N and its own arch_id.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from finscale.archgrid.base import DIMENSIONS, GridConfig, parse_grid_base
from finscale.archgrid.enumerate import architecture_row
from finscale.core.budgets import parse_budget
from finscale.core.errors import Fault, FinscaleError, raise_faults
from finscale.core.hashing import content_hash
from finscale.models.counting import arch_id, count_params
from finscale.search.bound_space import BoundSpace, LinkedGroup
from finscale.search.dimensions import Dimension
from finscale.search.options import read_config, same_model, values_in, view_of
from finscale.search.space_names import DATA_NAMES
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.tasks import parse_task
from finscale.windows.view import WindowView

__all__ = ["Candidates", "expand"]

_SHOWN_FAULTS = 3


@dataclass(frozen=True)
class Candidates:
    """What a space makes of a grid.

    Parameters
    ----------
    table : DataFrame
        One row per candidate: the columns of the grid, a column per row dimension, the index of every linked
        group that holds one (``linked_0``) and, where data is searched, ``view``: a `WindowView` as JSON.
    n_product : int
        Rows of the grid times the combinations of row dimensions that each takes part in.
    n_duplicates : int
        Those among them that would train the model of another one on the same data.
    refused : tuple of Fault
        Why others among them are no candidates, one each, and why a choice met no row of the grid.
    """

    table: pd.DataFrame
    n_product: int
    n_duplicates: int
    refused: tuple[Fault, ...]


def expand(
    grid: pd.DataFrame,
    space: BoundSpace,
    *,
    experiment: ExperimentConfig,
    features: tuple[str, ...],
    tolerance: float,
) -> Candidates:
    """Return the candidates of a cell; of a space without row dimensions the grid as it is.

    Parameters
    ----------
    grid : DataFrame
        From `finscale.archgrid.enumerate.enumerate_grid`.
    space : BoundSpace
        Bound to the family of the grid.
    experiment : ExperimentConfig
        Says what the windows are built of.
    features : tuple of str
        Of the windows.
    tolerance : float
        Half-width of the band around the budget within which the N of a candidate must lie.

    Raises
    ------
    FinscaleError
        With every choice at once that the windows do not hold; or when no candidate is left.
    """
    if not space.row_names:
        return Candidates(grid, len(grid), 0, ())
    raise_faults(_data_faults(space, experiment.data, features))
    missing = [*_missing_choices(space, grid), *_missing_indices(space, grid)]
    combinations = _combinations(grid, _within(space, grid))
    expansion = _Expansion(space, features, experiment.data.context_length, tolerance)
    for row, chosen in combinations:
        expansion.add(row, chosen)
    refused = (*missing, *expansion.refused)
    if not expansion.rows:
        first = "; ".join(map(str, refused[:_SHOWN_FAULTS]))
        raise Fault(
            "hpo.space", "leave a candidate", f"none of {len(combinations)}", f"first reasons: {first}"
        )
    table = _table(expansion.rows, grid, space)
    return Candidates(table, len(combinations), expansion.n_duplicates, refused)


class _Expansion:
    """Candidates as they are found, one combination after the other."""

    def __init__(
        self, space: BoundSpace, features: tuple[str, ...], context_length: int, tolerance: float
    ) -> None:
        self._space, self._tolerance = space, tolerance
        self._features, self._context_length = features, context_length
        # a group that ties training parameters to its index makes two candidates of one model
        self._mixed = [group.name for group in space.row_groups if set(group.members) - group.row_names]
        self._seen: set[tuple[Any, ...]] = set()
        self._bases: dict[str, GridConfig] = {}
        self.rows: list[dict[str, Any]] = []
        self.refused: list[Fault] = []
        self.n_duplicates = 0

    def add(self, row: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
        """Take one combination in, as a candidate, a duplicate or a fault."""
        values = _values(self._space, chosen)
        try:
            config, view, sizes = self._read(row, values)
        except FinscaleError as fault:
            self.refused.append(_named(fault, {**{name: row[name] for name in DIMENSIONS}, **values}))
            return
        model = arch_id(same_model(config), **sizes)
        identity = (model, view, *(chosen[name] for name in self._mixed))
        if identity in self._seen:
            self.n_duplicates += 1
            return
        self._seen.add(identity)
        whole = {"features": self._features, "context_length": self._context_length}
        known = {**values_in(config), **whole, **_data_values(values)}
        self.rows.append(
            {
                **row,
                **architecture_row(config, **sizes),
                **{name: known[name] for name in self._space.row_names},
                **{group.name: chosen[group.name] for group in self._space.row_groups},
                "view": None if view is None else view.model_dump_json(),
            }
        )

    def _read(
        self, row: Mapping[str, Any], values: Mapping[str, Any]
    ) -> tuple[GridConfig, WindowView | None, dict[str, int]]:
        """Return config, view, F and T of a combination.

        Raises
        ------
        FinscaleError
            When the model does not accept it, or its N lies outside the band.
        """
        view = view_of(values, features=self._features, context_length=self._context_length)
        sizes = (view or WindowView()).sizes(
            n_features=len(self._features), context_length=self._context_length
        )
        config = read_config(self._base(str(row["config"])), values)
        n_params, budget = count_params(config, **sizes).total, parse_budget(row["budget"])
        if abs(n_params - budget) > self._tolerance * budget:
            rule = f"have N within {100 * self._tolerance:g}% of {row['budget']}"
            raise Fault("", rule, f"N = {n_params:,}")
        return config, view, sizes

    def _base(self, config: str) -> GridConfig:
        """Read the config of a grid row once."""
        if config not in self._bases:
            self._bases[config] = parse_grid_base(json.loads(config))
        return self._bases[config]


def _data_faults(space: BoundSpace, data: DataConfig, features: tuple[str, ...]) -> Iterator[Fault]:
    """Yield what the windows do not hold: they are built once, from the experiment."""
    if "features" in space.row_names and parse_task(data.task).kind == "forecast":
        rule = "be left out where data.task is forecast: the features are what is forecast"
        yield Fault("hpo.space.features", rule, "features", "remove it")
    for name, value in _written(space):
        if name in DATA_NAMES:
            yield from _view_faults(name, value, features, data.context_length)


def _view_faults(name: str, value: Any, features: tuple[str, ...], context_length: int) -> Iterator[Fault]:
    subject = f"hpo.space.{name}"
    if name == "features" and not isinstance(value, list | tuple):
        yield Fault(subject, "have lists of features as choices", value, "write choices: [[a, b], [a]]")
        return
    try:
        view = WindowView.read({name: value})
    except FinscaleError as fault:
        yield Fault(subject, "be a part of the windows", value, str(fault))
        return
    for found in view.faults(features=features, context_length=context_length):
        yield Fault(subject, found.rule, found.got, found.remedy)


def _written(space: BoundSpace) -> Iterator[tuple[str, Any]]:
    """Every value of every row dimension, linked ones included."""
    for name, values in space.row_values.items():
        yield from ((name, value) for value in values)
    for group in space.row_groups:
        for name in group.row_names:
            yield from ((name, value) for value in group.members[name])


def _missing_choices(space: BoundSpace, grid: pd.DataFrame) -> Iterator[Fault]:
    """Yield every choice that no row of the grid has; a range takes what lies in it."""
    for name in (name for name in DIMENSIONS if name in space.row_dimensions):
        offered = sorted(grid[name].unique().tolist())
        for value in space.row_dimensions[name].choices or ():
            if value not in offered:
                remedy = f"choose among {', '.join(map(str, offered))}"
                yield Fault(f"hpo.space.{name}", "be the value of a row of the grid", value, remedy)


def _missing_indices(space: BoundSpace, grid: pd.DataFrame) -> Iterator[Fault]:
    """Yield every index of a linked group that no row of the grid has."""
    for group in space.row_groups:
        names = [name for name in DIMENSIONS if name in group.row_names]
        offered = set(grid[names].itertuples(index=False, name=None))
        for index in range(group.n if names else 0):
            values = group.at(index)
            if tuple(values[name] for name in names) not in offered:
                got = _pairs({name: values[name] for name in names})
                yield Fault(f"hpo.space.{group.name}, index {index},", "be of a row of the grid", got)


def _within(space: BoundSpace, grid: pd.DataFrame) -> BoundSpace:
    """Return the space less what no row of the grid has, so that long ranges are not walked in vain."""
    kept = {
        name: tuple(value for value in values if name not in DIMENSIONS or value in set(grid[name]))
        for name, values in space.row_values.items()
    }
    dimensions = {
        name: Dimension(choices=kept[name], when=found.when) for name, found in space.row_dimensions.items()
    }
    return replace(space, row_dimensions=dimensions)


def _combinations(grid: pd.DataFrame, space: BoundSpace) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pair every row of the grid with what may be chosen for it, in the order of the grid."""
    rows: list[dict[str, Any]] = [{str(k): v for k, v in row.items()} for row in grid.to_dict("records")]
    places: dict[tuple[str, ...], dict[tuple[Any, ...], list[int]]] = {}
    found: list[tuple[int, dict[str, Any]]] = []
    for chosen in space.row_combinations():
        values = _values(space, chosen)
        names = tuple(name for name in DIMENSIONS if name in values)
        if names not in places:
            places[names] = _places(rows, names)
        positions = places[names].get(tuple(values[name] for name in names), ())
        found += [(position, chosen) for position in positions]
    return [(rows[position], chosen) for position, chosen in sorted(found, key=lambda pair: pair[0])]


def _places(rows: Sequence[Mapping[str, Any]], names: tuple[str, ...]) -> dict[tuple[Any, ...], list[int]]:
    places: dict[tuple[Any, ...], list[int]] = {}
    for position, row in enumerate(rows):
        places.setdefault(tuple(row[name] for name in names), []).append(position)
    return places


def _values(space: BoundSpace, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the active row dimensions: what was chosen, and the members of groups at the chosen index."""
    alone = {name: value for name, value in chosen.items() if name in space.row_dimensions}
    groups = [_row_part(group, chosen[group.name]) for group in space.row_groups]
    return {name: value for part in (alone, *groups) for name, value in part.items()}


def _row_part(group: LinkedGroup, index: int) -> dict[str, Any]:
    return {name: value for name, value in group.at(index).items() if name in group.row_names}


def _data_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Data dimensions as they were written, a list as a tuple."""
    found = {name: values[name] for name in DATA_NAMES if name in values}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _named(fault: FinscaleError, values: Mapping[str, Any]) -> Fault:
    """Return the fault of one combination under its name."""
    name = f"candidate ({_pairs(values)})"
    if not isinstance(fault, Fault):
        return Fault(name, "be accepted by its model", str(fault))
    return Fault(f"{name} {fault.subject}".rstrip(), fault.rule, fault.got, fault.remedy)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _table(rows: list[dict[str, Any]], grid: pd.DataFrame, space: BoundSpace) -> pd.DataFrame:
    """Lay candidates as a table; values of row dimensions stay what they are, null included."""
    own = [name for name in space.row_names if name not in grid.columns]
    own += [group.name for group in space.row_groups]
    own += ["view"] if set(DATA_NAMES) & set(own) else []
    table = pd.DataFrame([{name: row[name] for name in grid.columns} for row in rows])
    for name in own:
        table[name] = pd.Series([row[name] for row in rows], dtype=object)
    known = [table[name].tolist() for name in ("arch_id", *own)]
    table["grid_hash"] = content_hash(grid["grid_hash"].iloc[0], known)
    table.attrs.update(grid.attrs)
    return table
