"""How long one budget's grid takes, and how far the memory model is from a measured training step.

Run with ``python benchmarks/bench_grid.py``; the memory part needs a CUDA device and says so without one.
"""

import time

import torch

from finscale.archgrid.batching import BatchRequest
from finscale.archgrid.enumerate import enumerate_grid
from finscale.archgrid.memory import predict_memory
from finscale.archgrid.probe import step_fits
from finscale.core.budgets import parse_budget
from finscale.models.config import PatchTSTConfig

SIZES = {"n_features": 25, "context_length": 60}
BUDGETS = ("5K", "50K", "500K", "2M", "20M", "200M", "2B")
SHAPES = ((128, 10, 8), (384, 11, 8), (128, 96, 8), (1024, 16, 16))
MICRO_BATCH_SIZE = 512


def main() -> None:
    for budget in BUDGETS:
        rows, milliseconds = time_grid(parse_budget(budget))
        print(f"grid {budget:>4}: {rows:4d} rows in {milliseconds:5.1f} ms")
    if not torch.cuda.is_available():
        print("memory: no CUDA device here, not measured")
        return
    for shape in SHAPES:
        for precision in ("fp32", "bf16"):
            predicted, measured = compare_memory(*shape, precision=precision)
            print(f"memory {shape} {precision}: predicted / measured = {predicted / measured:.3f}")


def time_grid(budget: int, repeats: int = 5) -> tuple[int, float]:
    """Return the rows and the best of ``repeats`` times in milliseconds."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        rows = len(enumerate_grid(budget, **SIZES))
        best = min(best, time.perf_counter() - started)
    return rows, 1e3 * best


def compare_memory(d_model: int, n_layers: int, n_heads: int, *, precision: str) -> tuple[int, int]:
    """Return the predicted and the measured peak in bytes of a training step on the GPU."""
    config = PatchTSTConfig(d_model=d_model, n_layers=n_layers, n_heads=n_heads, d_ff=4 * d_model)
    request = BatchRequest(config=config, **SIZES, device="cuda", precision=precision)
    torch.cuda.reset_peak_memory_stats()
    step_fits(request, MICRO_BATCH_SIZE)
    estimate = predict_memory(config, **SIZES, micro_batch_size=MICRO_BATCH_SIZE, precision=precision)
    return estimate.total, torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    main()
