"""What the MIGT-TVDT costs at its published size: memory by the way of attention, and its embedding.

Run with ``python benchmarks/bench_migt.py``. V=24 variables, T=288 bars, d_model 256, 4 + 2 layers, 5
horizons by 7 levels. Every peak is that of two training steps in a fresh process: of its resident memory on a
CPU (2 windows), of ``max_memory_allocated`` on CUDA (64 and 128). ``manual`` is attention as it is written
down, softmax(Q K') V, whose probabilities the backward pass reads; ``sdpa`` is torch's fused attention, as
the model has it; ``recomputed`` is that with activation checkpointing. The embedding is timed against one map
after the other, in turns, by the processor's time on a CPU.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional

from finscale.archgrid.batching import BatchRequest
from finscale.archgrid.memory import predict_memory
from finscale.archgrid.probe import step_fits
from finscale.models.config import MigtTvdtConfig
from finscale.models.head_config import QuantileHead
from finscale.models.layers.heads import ChannelLinear
from finscale.models.registry import build_meta_model
from finscale.training.memory import peak_memory_bytes

V, T = 24, 288
CONFIG = MigtTvdtConfig(head=QuantileHead(horizons=(3, 6, 12, 24, 48)), session_bars=T)
SIZES = {"n_features": V, "context_length": T}
WAYS = ("manual", "sdpa", "recomputed")
BATCHES = {"cpu": (2,), "cuda": (64, 128)}
PRECISIONS = {"cpu": ("fp32",), "cuda": ("bf16", "fp32")}
ALLOWED_BYTES = 75e9
"""Of 128 windows on CUDA, by the leanest way."""


def main() -> None:
    n_params = sum(weights.numel() for weights in build_meta_model(CONFIG, **SIZES).parameters())
    print(f"N = {n_params:,} at V={V}, T={T}", flush=True)
    for kind in ("cpu", "cuda"):
        if kind == "cuda" and not torch.cuda.is_available():
            print("cuda: skipped, no CUDA device here")
            continue
        for precision in PRECISIONS[kind]:
            for n_windows in BATCHES[kind]:
                _compare(kind, precision, n_windows)
    _time_embedding()


def _compare(kind: str, precision: str, n_windows: int) -> None:
    peaks = {way: _measured(kind, precision, n_windows, way) for way in WAYS}
    for way, (predicted, peak, seconds) in peaks.items():
        ratio, slower = peak / peaks["sdpa"][1], seconds / peaks["sdpa"][2]
        told = "" if way == "manual" else f", predicted {predicted / peak:.3f} of it"
        memory = f"{peak / 2**20:9.1f} MiB, {ratio:.2f} of sdpa{told}"
        print(f"{kind} {precision} {n_windows:3d} windows {way:10}: {memory}; ", end="")
        print(f"two steps {seconds:6.2f} s, {slower:.2f} of sdpa", flush=True)
    if n_windows == max(BATCHES["cuda"]):
        least = min(peak for _, peak, _ in peaks.values())
        print(
            f"{kind} {precision} {n_windows} windows: {least / 1e9:.1f} GB, allowed {ALLOWED_BYTES / 1e9:.0f}"
        )


def _measured(kind: str, precision: str, n_windows: int, way: str) -> tuple[int, int, float]:
    arguments = [sys.executable, __file__, kind, precision, str(n_windows), way]
    child = subprocess.run(arguments, check=False, capture_output=True, text=True)
    if child.returncode:
        raise SystemExit(f"{kind} {precision} {n_windows} {way}: {child.stderr[-500:]}")
    predicted, peak, seconds = child.stdout.split()
    return int(predicted), int(peak), float(seconds)


def measure(kind: str, precision: str, n_windows: int, way: str) -> tuple[int, int, float]:
    """Return the predicted peak in bytes, what this process's peak grew by, and the seconds it worked."""
    if way == "manual":
        functional.scaled_dot_product_attention = _written_down
    request = BatchRequest(config=CONFIG, **SIZES, device=kind, precision=precision)
    tiny = CONFIG.model_copy(update={"d_model": 16, "d_ff": 32, "n_layers": 1})
    step_fits(request.model_copy(update={"config": tiny}), 1)  # loads libraries, which are not the step's
    before = 0 if kind == "cuda" else psutil.Process().memory_info().rss
    clock = time.process_time if kind == "cpu" else time.perf_counter
    started = clock()
    if not step_fits(request, n_windows, activation_checkpointing=way == "recomputed"):
        raise SystemExit("the step ran out of memory")
    seconds = clock() - started
    estimate = predict_memory(
        CONFIG,
        **SIZES,
        micro_batch_size=n_windows,
        precision=precision,
        device_type=kind,
        activation_checkpointing=way == "recomputed",
    )
    return estimate.total, peak_memory_bytes(torch.device(kind)) - before, seconds


def _written_down(queries: Tensor, keys: Tensor, values: Tensor, **options: object) -> Tensor:
    """Attention without a mask, its scores and probabilities in memory."""
    assert options.pop("attn_mask") is None
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(values.shape[-1])
    return scores.softmax(dim=-1) @ values


class _Loop(nn.Module):
    """The embedding of one variable after the other."""

    def __init__(self, n_variables: int, d_model: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(1, d_model) for _ in range(n_variables))

    def forward(self, x_KV1: Tensor) -> Tensor:
        parts = zip(self.maps, x_KV1.unbind(dim=1), strict=True)
        return torch.stack([embed(x_K1) for embed, x_K1 in parts], dim=1)


def _time_embedding(n_windows: int = 8, n_rounds: int = 7) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ways = {"vectorised": ChannelLinear(V, 1, CONFIG.d_model), "loop": _Loop(V, CONFIG.d_model)}
    values = torch.randn(n_windows * T, V, 1, device=device)
    best = dict.fromkeys(ways, math.inf)
    for module in ways.values():
        module.to(device)
        _seconds(lambda module=module: module(values).sum().backward(), device)
    for _ in range(n_rounds):
        for name, module in ways.items():
            step = _seconds(lambda module=module: module(values).sum().backward(), device)
            best[name] = min(best[name], step)
    shown = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in best.items())
    ratio = best["loop"] / best["vectorised"]
    print(
        f"{device} embedding of {n_windows} windows, forward and back: {shown}; the loop takes {ratio:.2f} x"
    )


def _seconds(work: Callable[[], None], device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    started = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - started


if __name__ == "__main__":
    if arguments := sys.argv[1:]:
        kind, precision, n_windows, way = arguments
        print(*measure(kind, precision, int(n_windows), way))
    else:
        main()
