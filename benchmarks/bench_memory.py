"""How far the memory model is from the measured peak of a training step, from narrow-deep to shallow-wide.

Run with ``python benchmarks/bench_memory.py``; every architecture is measured in a fresh process, by the peak
of its resident memory on a CPU and by ``max_memory_allocated`` where a CUDA device is present.
"""

import subprocess
import sys

import psutil
import torch

from finscale.archgrid.batching import BatchRequest
from finscale.archgrid.memory import predict_memory
from finscale.archgrid.probe import step_fits
from finscale.models.config import AnyConfig, PatchTSTConfig, TransformerConfig
from finscale.training.memory import peak_memory_bytes

SIZES = {"n_features": 25, "context_length": 60}
SHAPES = ((64, 64), (64, 32), (128, 24), (192, 16), (256, 12), (384, 6), (512, 4), (768, 2))
"""(d_model, n_layers); d_ff = 4 d_model, 8 heads."""

RECOMPUTED = ((64, 64), (256, 12))
"""Of these, measured with activation checkpointing too; on a CPU what the heap keeps then varies by run."""

WITH_ATTRACTOR = ((64, 8), (256, 6))
"""Measured as decoders over the same bars, with an attractor in every block and a window of 16 bars."""

ALLOWED = {"cpu": 0.25, "cuda": 0.15}
MICRO_BATCH_SIZE = {"cpu": 128, "cuda": 512}


def main() -> None:
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    for precision in ("fp32", "bf16") if kind == "cuda" else ("fp32",):
        ratios = [_print_ratio(kind, precision, *shape, "whole") for shape in SHAPES]
        ratios += [_print_ratio(kind, precision, *shape, "attractor") for shape in WITH_ATTRACTOR]
        for shape in RECOMPUTED:
            _print_ratio(kind, precision, *shape, "recomputed")
        worst = max(abs(ratio - 1) for ratio in ratios)
        print(f"{kind} {precision}: worst {100 * worst:.1f} %, allowed {100 * ALLOWED[kind]:.0f} %")


def _print_ratio(kind: str, precision: str, d_model: int, n_layers: int, blocks: str) -> float:
    arguments = [kind, precision, str(d_model), str(n_layers), blocks]
    child = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    predicted, measured = map(int, child.stdout.split())
    ratio = predicted / measured
    mib = f"predicted {predicted / 2**20:7.1f} MiB, measured {measured / 2**20:7.1f} MiB"
    print(
        f"{kind} {precision} d={d_model:4d} L={n_layers:3d} {blocks:10}: {mib}, ratio {ratio:.3f}", flush=True
    )
    return ratio


def measure(kind: str, precision: str, d_model: int, n_layers: int, *, blocks: str) -> tuple[int, int]:
    """Return the predicted peak in bytes and what this process's peak grew by over two micro-batches."""
    recomputed, shape = blocks == "recomputed", {"d_model": d_model, "n_layers": n_layers, "n_heads": 8}
    config: AnyConfig = PatchTSTConfig(**shape, d_ff=4 * d_model)
    if blocks == "attractor":
        looking_back = {"window_size": 16, "attractor": {"keys": "content", "into": "all"}}
        config = TransformerConfig.read({**shape, "d_ff": 4 * d_model, **looking_back})
    request = BatchRequest(config=config, **SIZES, device=kind, precision=precision)
    tiny = config.model_copy(update={"d_model": 16, "d_ff": 32, "n_layers": 1})
    step_fits(request.model_copy(update={"config": tiny}), 2)  # loads libraries, which are not the step's
    before = 0 if kind == "cuda" else psutil.Process().memory_info().rss
    if not step_fits(request, MICRO_BATCH_SIZE[kind], activation_checkpointing=recomputed):
        raise SystemExit("the step ran out of memory")
    estimate = predict_memory(
        config,
        **SIZES,
        micro_batch_size=MICRO_BATCH_SIZE[kind],
        precision=precision,
        device_type=kind,
        activation_checkpointing=recomputed,
    )
    return estimate.total, peak_memory_bytes(torch.device(kind)) - before


if __name__ == "__main__":
    if arguments := sys.argv[1:]:
        kind, precision, d_model, n_layers, blocks = arguments
        print(*measure(kind, precision, int(d_model), int(n_layers), blocks=blocks))
    else:
        main()
