"""List every architecture whose exact parameter count lies within a band around a budget.

Every cost is linear in depth as long as it is even, so that two and four layers, counted by the scalar
formulas, give all even depths exactly; an odd one (whose half some model rounds down) is counted by itself.
N parameters, T context_length, F features, C outputs, d d_model, L n_layers.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
from pydantic import ValidationError

from finscale.archgrid.base import (
    BASE,
    D_FF_RATIOS,
    DIMENSIONS,
    N_HEADS,
    N_LAYERS,
    SMALL_BUDGET,
    SMALL_WIDTHS,
    WIDTHS,
    GridConfig,
)
from finscale.archgrid.memory import predict_memory
from finscale.core.budgets import format_budget
from finscale.core.errors import Fault
from finscale.core.hashing import content_hash
from finscale.models.counting import arch_id, count_params, flops

__all__ = ["GRID_COLUMNS", "SPACE_COLUMNS", "architecture_row", "enumerate_grid", "enumerate_space"]
__all__ += ["require_admissible"]

MEMORY_BATCH_SIZE = 128
"""Windows in the forward pass for which a row's ``memory_bytes`` is predicted (fp32)."""

_COUNTS = ("n_params", "n_embedding", "n_positions", "n_body", "n_head")
_COSTS = ("flops_forward", "flops_training", "memory_bytes", "aspect_ratio")
SPACE_COLUMNS = ["arch_id", "model_family", "config", *DIMENSIONS, *_COUNTS, *_COSTS]
GRID_COLUMNS = [*SPACE_COLUMNS, "budget", "grid_hash"]


class _Shape(NamedTuple):
    """What decides N; heads do not, unless the base shares keys among them."""

    d_model: int
    n_layers: int
    d_ff: int

    def __str__(self) -> str:
        return f"d={self.d_model}, L={self.n_layers}, d_ff={self.d_ff}"


class _Costs(NamedTuple):
    """What an architecture costs: N by group, operations per window, bytes of a training step."""

    n_embedding: int
    n_positions: int
    n_body: int
    n_head: int
    flops_forward: int
    flops_training: int
    memory_bytes: int

    @property
    def n_params(self) -> int:
        """N."""
        return sum(self[:4])


class _Candidate(NamedTuple):
    """One combination of the search space."""

    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    costs: _Costs

    @property
    def n_params(self) -> int:
        """N."""
        return self.costs.n_params

    @property
    def shape(self) -> _Shape:
        """The combination without its heads."""
        return _Shape(self.d_model, self.n_layers, self.d_ff)


class _Sizes(NamedTuple):
    """F, T and C of the data set."""

    n_features: int
    context_length: int
    n_outputs: int


def enumerate_grid(
    budget: int,
    *,
    n_features: int,
    context_length: int,
    n_outputs: int = 1,
    base: GridConfig = BASE,
    tolerance: float = 0.25,
) -> pd.DataFrame:
    """Return the admissible architectures at a budget, one per row, sorted by N.

    Parameters
    ----------
    budget : int
        Target N, from about 5K up. Widths below 64 take part under 1M only.
    n_features, context_length, n_outputs : int
        F, T and C, which N depends on.
    base : GridConfig
        Everything but the four searched dimensions.
    tolerance : float
        Half-width of the band around the budget, inclusive at both ends; 0.25 keeps 0.75 to 1.25 budgets.

    Returns
    -------
    DataFrame
        With `GRID_COLUMNS`. Identity is ``arch_id``; ``grid_hash`` is the content hash of the rows.

    Raises
    ------
    Fault
        When no architecture fits; it names the smallest admissible N and the nearest budgets that have some.
    """
    _check_tolerance(tolerance)
    sizes = _Sizes(n_features, context_length, n_outputs)
    admissible = _admissible(budget, sizes, base, tolerance)
    if not admissible:
        raise _empty_grid_fault(budget, sizes, base, tolerance)
    grid = _frame(admissible, sizes, base)
    grid_hash = content_hash(budget, grid["arch_id"].tolist(), grid["n_params"].tolist())
    return grid.assign(budget=format_budget(budget), grid_hash=grid_hash)[GRID_COLUMNS]


def enumerate_space(
    *,
    n_features: int,
    context_length: int,
    n_outputs: int = 1,
    base: GridConfig = BASE,
    widths: tuple[int, ...] = WIDTHS,
) -> pd.DataFrame:
    """Return the whole search space whatever its N, one architecture per row, sorted by N.

    Parameters
    ----------
    n_features, context_length, n_outputs, base
        As in `enumerate_grid`.
    widths : tuple of int
        Values of d_model; without the small ones there are 1,700 combinations.

    Returns
    -------
    DataFrame
        With `SPACE_COLUMNS`: a grid's rows without their budget.
    """
    sizes = _Sizes(n_features, context_length, n_outputs)
    return _frame(_candidates(widths, sizes, base), sizes, base)


def architecture_row(
    config: GridConfig, *, n_features: int, context_length: int, n_outputs: int = 1
) -> dict[str, Any]:
    """Return one architecture, whatever its N, as a row with `SPACE_COLUMNS`."""
    sizes = _Sizes(n_features, context_length, n_outputs)
    return _described(config, _costs(config, sizes), sizes)


def require_admissible(
    *,
    d_model: int,
    n_layers: int,
    n_heads: int,
    d_ff: int,
    budget: int,
    n_features: int,
    context_length: int,
    n_outputs: int = 1,
    base: GridConfig = BASE,
    tolerance: float = 0.25,
) -> GridConfig:
    """Return the config of an architecture if its true N lies within the budget's band.

    Any shape may be asked for, whether or not the search space holds it.

    Raises
    ------
    Fault
        Otherwise; it states the true N and the nearest admissible shapes.
    """
    _check_tolerance(tolerance)
    sizes, shape = _Sizes(n_features, context_length, n_outputs), _Shape(d_model, n_layers, d_ff)
    dims = {**shape._asdict(), "n_heads": n_heads}
    config = type(base).read({**base.model_dump(), **dims}, subject="architecture")
    n_params = count_params(config, **sizes._asdict()).total
    if _within(n_params, budget, tolerance):
        return config
    admissible = {each.shape for each in _admissible(budget, sizes, base, tolerance)}
    near = _nearest(shape, sorted(admissible))
    remedy = f"nearest admissible shapes: {'; '.join(map(str, near))}" if near else "choose another budget"
    rule = f"have N within {100 * tolerance:g}% of {format_budget(budget)}"
    raise Fault(f"architecture ({shape})", rule, f"N = {n_params:,} ({_millions(n_params)})", remedy)


def _check_tolerance(tolerance: float) -> None:
    if not 0 <= tolerance < 1:
        raise Fault("tolerance", "be at least 0 and below 1", tolerance, "0.25 is the default")


def _within(n_params: int, budget: int, tolerance: float) -> bool:
    return abs(n_params - budget) <= tolerance * budget


def _widths(budget: int) -> tuple[int, ...]:
    return SMALL_WIDTHS + WIDTHS if budget < SMALL_BUDGET else WIDTHS


def _candidates(widths: tuple[int, ...], sizes: _Sizes, base: GridConfig) -> list[_Candidate]:
    return [
        _Candidate(d_model, n_layers, n_heads, ratio * d_model, costs)
        for d_model, n_heads in itertools.product(widths, N_HEADS)
        if _is_possible(base, {"d_model": d_model, "n_heads": n_heads})
        for ratio in D_FF_RATIOS
        for n_layers, costs in _by_depth(
            base.model_copy(update={"d_model": d_model, "n_heads": n_heads, "d_ff": ratio * d_model}), sizes
        )
    ]


def _is_possible(base: GridConfig, dimensions: dict[str, int]) -> bool:
    """Whether the config accepts a width and its heads."""
    try:
        type(base).model_validate({**base.model_dump(), **dimensions})
    except ValidationError:
        return False
    return True


def _by_depth(config: GridConfig, sizes: _Sizes) -> Iterator[tuple[int, _Costs]]:
    """Yield the costs of every depth, the even ones on the line through those of two and four layers."""

    def at(n_layers: int) -> _Costs:
        return _costs(config.model_copy(update={"n_layers": n_layers}), sizes)

    two, four = at(2), at(4)
    for n_layers in N_LAYERS:
        line = (a + (n_layers // 2 - 1) * (b - a) for a, b in zip(two, four, strict=True))
        yield n_layers, at(n_layers) if n_layers % 2 else _Costs(*line)


def _costs(config: GridConfig, sizes: _Sizes) -> _Costs:
    count, operations = count_params(config, **sizes._asdict()), flops(config, **sizes._asdict())
    memory = predict_memory(
        config,
        n_features=sizes.n_features,
        context_length=sizes.context_length,
        n_outputs=sizes.n_outputs,
        micro_batch_size=MEMORY_BATCH_SIZE,
        n_params=count.total,
    ).total
    groups = (count.embedding, count.positions, count.body, count.head)
    return _Costs(*groups, operations.forward, operations.training, memory)


def _admissible(budget: int, sizes: _Sizes, base: GridConfig, tolerance: float) -> list[_Candidate]:
    candidates = _candidates(_widths(budget), sizes, base)
    return [each for each in candidates if _within(each.n_params, budget, tolerance)]


def _frame(candidates: list[_Candidate], sizes: _Sizes, base: GridConfig) -> pd.DataFrame:
    order = ["n_params", "d_model", "n_layers", "d_ff", "n_heads"]
    rows = [_row(candidate, sizes, base) for candidate in candidates]
    return pd.DataFrame(rows, columns=SPACE_COLUMNS).sort_values(order, ignore_index=True)


def _row(candidate: _Candidate, sizes: _Sizes, base: GridConfig) -> dict[str, Any]:
    dimensions = dict(zip(DIMENSIONS, candidate, strict=False))
    return _described(base.model_copy(update=dimensions), candidate.costs, sizes)


def _described(config: GridConfig, costs: _Costs, sizes: _Sizes) -> dict[str, Any]:
    return {
        "arch_id": arch_id(config, n_features=sizes.n_features, context_length=sizes.context_length),
        "model_family": config.family,
        "config": config.model_dump_json(),
        **{name: getattr(config, name) for name in DIMENSIONS},
        "n_params": costs.n_params,
        **costs._asdict(),
        "aspect_ratio": config.d_model / config.n_layers,
    }


def _empty_grid_fault(budget: int, sizes: _Sizes, base: GridConfig, tolerance: float) -> Fault:
    """Name the smallest admissible N and, on either side, the nearest budget that has an architecture."""
    every = _candidates(SMALL_WIDTHS + WIDTHS, sizes, base)
    if not every:
        raise _no_heads_fault(base)
    offers = sorted({_round_2(each.n_params) for each in every if _offered(each, tolerance)})
    below, above = [b for b in offers if b < budget][-1:], [b for b in offers if b > budget][:1]
    names = " and ".join(format_budget(offer) for offer in below + above)
    smallest = min(each.n_params for each in every)
    rule = (
        f"have an architecture within {100 * tolerance:g}% at F={sizes.n_features}, T={sizes.context_length}"
    )
    remedy = f"the smallest admissible N is {smallest:,}, the nearest budgets with architectures: {names}"
    return Fault("budget", rule, format_budget(budget), remedy)


def _no_heads_fault(base: GridConfig) -> Fault:
    """The base forbids every width of the search space, or all heads at each."""
    return Fault("base", f"accept one of d_model={WIDTHS} with n_heads={N_HEADS}", base.model_dump_json())


def _offered(candidate: _Candidate, tolerance: float) -> bool:
    """Whether the rounded N, taken as a budget, has this shape in its grid."""
    rounded = _round_2(candidate.n_params)
    return candidate.d_model in _widths(rounded) and _within(candidate.n_params, rounded, tolerance)


def _round_2(n_params: int) -> int:
    """Round to two significant digits."""
    step = 10 ** max(0, len(str(n_params)) - 2)
    return round(n_params / step) * step


def _nearest(wanted: _Shape, shapes: list[_Shape], count: int = 3) -> list[_Shape]:
    return sorted(
        shapes, key=lambda shape: sum(abs(math.log(a / b)) for a, b in zip(wanted, shape, strict=True))
    )[:count]


def _millions(n_params: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if n_params >= size:
            return f"{n_params / size:.1f}{unit}"
    return str(n_params)
