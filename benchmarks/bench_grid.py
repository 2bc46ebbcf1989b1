"""How long the grids take, how many shapes they hold, and whether N is that of every built model.

Run with ``python benchmarks/bench_grid.py``; it builds every row of every budget on the meta device.
"""

import functools
import json
import time
from collections.abc import Callable

import pandas as pd

from finscale.archgrid.enumerate import enumerate_grid, enumerate_space
from finscale.core.budgets import parse_budget
from finscale.models.config import parse_model_config
from finscale.models.registry import build_meta_model

SIZES = {"n_features": 25, "context_length": 60}
BUDGETS = ("5K", "50K", "500K", "2M", "20M", "200M", "2B")
ALLOWED_S = 0.2


def main() -> None:
    space, wall_s, cpu_s = timed(functools.partial(enumerate_space, **SIZES))
    print(f"whole space: {len(space):,} rows in {wall_s:.3f} s ({cpu_s:.3f} s of CPU), allowed {ALLOWED_S} s")
    for budget in BUDGETS:
        grid, wall_s, _ = timed(functools.partial(enumerate_grid, parse_budget(budget), **SIZES))
        n_shapes = len(grid[["d_model", "n_layers", "d_ff"]].drop_duplicates())
        print(
            f"grid {budget:>4}: {len(grid):4d} rows, {n_shapes:2d} shapes, in {1e3 * wall_s:5.1f} ms", end=""
        )
        print(f"; N == numel in {n_exact(grid)} rows", flush=True)


def timed(make: Callable[[], pd.DataFrame], repeats: int = 7) -> tuple[pd.DataFrame, float, float]:
    """Return what was made, and the best wall-clock and processor times in seconds."""
    wall_s = cpu_s = float("inf")
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        made = make()
        wall_s, cpu_s = min(wall_s, time.perf_counter() - wall), min(cpu_s, time.process_time() - cpu)
    return made, wall_s, cpu_s


def n_exact(grid: pd.DataFrame) -> int:
    """Return in how many rows N equals the parameters of the model built on the meta device."""
    return sum(numel(row.config) == row.n_params for row in grid.itertuples())


def numel(text: str) -> int:
    model = build_meta_model(parse_model_config(json.loads(text)), **SIZES)
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
