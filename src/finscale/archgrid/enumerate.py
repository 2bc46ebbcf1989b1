"""List every architecture whose exact parameter count lies within a band around a budget.

N parameters, T context_length, F features, d d_model, L n_layers.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from finscale.archgrid.memory import predict_memory
from finscale.core.budgets import format_budget
from finscale.core.errors import Fault
from finscale.core.hashing import content_hash
from finscale.models.config import PatchTSTConfig
from finscale.models.counting import ParamCount, arch_id, count_params, flops

__all__ = ["BASE", "D_FF_RATIOS", "GRID_COLUMNS", "N_HEADS", "N_LAYERS", "SMALL_WIDTHS", "WIDTHS"]
__all__ += ["enumerate_grid", "require_admissible"]

WIDTHS = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
SMALL_WIDTHS = (8, 16, 24, 32, 48)
SMALL_BUDGET = 1_000_000
N_LAYERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 180, 192, 256)
N_HEADS = (2, 4, 8, 16, 32)
D_FF_RATIOS = (2, 4)
MEMORY_BATCH_SIZE = 128
"""Windows in the forward pass for which a row's ``memory_bytes`` is predicted (fp32)."""

BASE = PatchTSTConfig(d_model=64, n_layers=2, n_heads=2, d_ff=128)
"""What a grid keeps fixed (patches, pooling, dropout); its four dimensions are replaced row by row."""

_DIMENSIONS = ("d_model", "n_layers", "n_heads", "d_ff")
_COUNTS = ("n_params", "n_embedding", "n_positions", "n_body", "n_head")
_COSTS = ("flops_forward", "flops_training", "memory_bytes", "aspect_ratio")
GRID_COLUMNS = ["arch_id", "model_family", "config", *_DIMENSIONS, *_COUNTS, *_COSTS, "budget", "grid_hash"]


class _Shape(NamedTuple):
    """What decides N; heads do not."""

    d_model: int
    n_layers: int
    d_ff: int

    def __str__(self) -> str:
        return f"d={self.d_model}, L={self.n_layers}, d_ff={self.d_ff}"


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
    base: PatchTSTConfig = BASE,
    tolerance: float = 0.25,
) -> pd.DataFrame:
    """Return the admissible architectures at a budget, one per row, sorted by N.

    Parameters
    ----------
    budget : int
        Target N, from about 5K up. Widths below 64 take part under 1M only.
    n_features, context_length, n_outputs : int
        F, T and C, which N depends on.
    base : PatchTSTConfig
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
    admissible = _admissible_shapes(budget, sizes, base, tolerance)
    if not admissible:
        raise _empty_grid_fault(budget, sizes, base, tolerance)
    rows = [_row(config, count, sizes) for config, count in _with_heads(admissible, base)]
    order = ["n_params", "d_model", "n_layers", "d_ff", "n_heads"]
    grid = pd.DataFrame(rows).sort_values(order, ignore_index=True)
    grid_hash = content_hash(budget, grid["arch_id"].tolist(), grid["n_params"].tolist())
    return grid.assign(budget=format_budget(budget), grid_hash=grid_hash)[GRID_COLUMNS]


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
    base: PatchTSTConfig = BASE,
    tolerance: float = 0.25,
) -> PatchTSTConfig:
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
    near = _nearest(shape, list(_admissible_shapes(budget, sizes, base, tolerance)))
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


def _counted(
    widths: tuple[int, ...], sizes: _Sizes, base: PatchTSTConfig
) -> Iterator[tuple[_Shape, ParamCount]]:
    for d_model in widths:
        for n_layers in N_LAYERS:
            for ratio in D_FF_RATIOS:
                shape = _Shape(d_model, n_layers, ratio * d_model)
                yield shape, count_params(base.model_copy(update=shape._asdict()), **sizes._asdict())


def _admissible_shapes(
    budget: int, sizes: _Sizes, base: PatchTSTConfig, tolerance: float
) -> dict[_Shape, ParamCount]:
    counted = _counted(_widths(budget), sizes, base)
    return {shape: count for shape, count in counted if _within(count.total, budget, tolerance)}


def _with_heads(
    shapes: dict[_Shape, ParamCount], base: PatchTSTConfig
) -> Iterator[tuple[PatchTSTConfig, ParamCount]]:
    for shape, count in shapes.items():
        for n_heads in N_HEADS:
            if shape.d_model % n_heads == 0:
                yield base.model_copy(update={**shape._asdict(), "n_heads": n_heads}), count


def _row(config: PatchTSTConfig, count: ParamCount, sizes: _Sizes) -> dict[str, Any]:
    operations = flops(config, **sizes._asdict())
    memory = predict_memory(config, **sizes._asdict(), micro_batch_size=MEMORY_BATCH_SIZE)
    return {
        "arch_id": arch_id(config, n_features=sizes.n_features, context_length=sizes.context_length),
        "model_family": config.family,
        "config": config.model_dump_json(),
        **config.model_dump(include=set(_DIMENSIONS)),
        "n_params": count.total,
        **{f"n_{group}": n_group for group, n_group in count.model_dump().items()},
        "flops_forward": operations.forward,
        "flops_training": operations.training,
        "memory_bytes": memory.total,
        "aspect_ratio": config.d_model / config.n_layers,
    }


def _empty_grid_fault(budget: int, sizes: _Sizes, base: PatchTSTConfig, tolerance: float) -> Fault:
    """Name the smallest admissible N and, on either side, the nearest budget that has an architecture."""
    every = dict(_counted(SMALL_WIDTHS + WIDTHS, sizes, base))
    offers = sorted({_round_2(n) for shape, n in _totals(every) if _offered(shape, n, tolerance)})
    below, above = [b for b in offers if b < budget][-1:], [b for b in offers if b > budget][:1]
    names = " and ".join(format_budget(offer) for offer in below + above)
    smallest = min(n_params for _, n_params in _totals(every))
    rule = (
        f"have an architecture within {100 * tolerance:g}% at F={sizes.n_features}, T={sizes.context_length}"
    )
    remedy = f"the smallest admissible N is {smallest:,}, the nearest budgets with architectures: {names}"
    return Fault("budget", rule, format_budget(budget), remedy)


def _totals(counted: dict[_Shape, ParamCount]) -> list[tuple[_Shape, int]]:
    return [(shape, count.total) for shape, count in counted.items()]


def _offered(shape: _Shape, n_params: int, tolerance: float) -> bool:
    """Whether the rounded N, taken as a budget, has this shape in its grid."""
    rounded = _round_2(n_params)
    return shape.d_model in _widths(rounded) and _within(n_params, rounded, tolerance)


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
