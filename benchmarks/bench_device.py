"""Training speed on a CUDA device, against Hugging Face's Trainer and against what the device can do.

    python benchmarks/bench_device.py [--repeats 5] [--profile FOLDER]

First the contenders of ``bench_training.py`` at its sizes, batch 128, in float32 with TF32 products and in
bfloat16: seconds from step to step of one epoch without validation, the device waited for at both ends;
contenders take turns, and a ratio is made within a turn. Then a model of 200M in bfloat16: its MFU (share of
the dense bfloat16 peak on the data sheet), the peak of its memory beside the model's prediction, and with
``--profile`` where the time of a step goes, kernel by kernel.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from bench_training import SHAPES, SIZES, B, HuggingFace, Plain, Windows, random_windows, run_spec
from finscale.archgrid.batching import split_batch
from finscale.archgrid.memory import predict_memory
from finscale.models.config import PatchTSTConfig
from finscale.models.counting import count_params
from finscale.training.config import ExecutionConfig
from finscale.training.loop import train
from finscale.training.memory import peak_memory_bytes
from finscale.training.peak_flops import utilisation

LARGE = PatchTSTConfig(d_model=1024, n_layers=16, n_heads=16, d_ff=4096)
"""About 200M parameters."""

LARGE_BATCHES = (128, 512, 2048, 4096)
N_STEPS = {"ours": 400, "ours, no graph": 120, "hf": 60, "plain": 120}
WARM_UP = 20


class Clock:
    """Seconds of a step, from step WARM_UP to the last; the device is waited for there and nowhere else."""

    def __init__(self, n_steps: int) -> None:
        self._n_steps, self._n_seen, self._began = n_steps, 0, 0.0
        self.step_s = float("nan")

    def tick(self, *_: Any, **__: Any) -> bool:
        """Hear that a step was launched, or is about to be."""
        self._n_seen += 1
        if self._n_seen == WARM_UP:
            torch.cuda.synchronize()
            self._began = time.perf_counter()
        if self._n_seen == self._n_steps:
            torch.cuda.synchronize()
            self.step_s = (time.perf_counter() - self._began) / (self._n_steps - WARM_UP)
        return False


def ours_s(
    shape: PatchTSTConfig,
    precision: Any,
    n_steps: int,
    *,
    batch_size: int = B,
    compiled: Any = "off",
    cuda_graph: bool = True,
) -> float:
    """Return seconds per step of `finscale.training.loop.train`."""
    clock, data = Clock(n_steps), random_windows(batch_size * n_steps)
    spec = run_spec(shape, 1)
    training = spec.training.model_copy(update={"effective_batch_size": batch_size, "warmup_steps": 2})
    batch = split_batch(batch_size, effective_batch_size=batch_size)
    spec = spec.model_copy(update={"training": training, "batch": batch})
    execution = ExecutionConfig(
        device="cuda", precision=precision, tf32=True, compile=compiled, cuda_graph=cuda_graph
    )
    with tempfile.TemporaryDirectory() as folder:
        train(spec, data, directory=Path(folder), execution=execution, should_stop=clock.tick)
    return clock.step_s


def hf_s(shape: PatchTSTConfig, precision: str, n_steps: int) -> float:
    """Return seconds per step of the Trainer."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    clock = Clock(n_steps)

    class Ticking(TrainerCallback):
        def on_step_begin(self, *args: Any, **options: Any) -> None:
            clock.tick()

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=B,
            num_train_epochs=1,
            learning_rate=1e-4,
            weight_decay=1e-3,
            warmup_steps=10,
            lr_scheduler_type="cosine",
            optim="adamw_torch_fused",
            bf16=precision == "bf16",
            tf32=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        data = Windows(random_windows(B * n_steps))
        Trainer(model=HuggingFace(shape), args=settings, train_dataset=data, callbacks=[Ticking()]).train()
    return clock.step_s


def plain_s(shape: PatchTSTConfig, precision: str, n_steps: int) -> float:
    """Return seconds per step of the script."""
    torch.manual_seed(0)
    model, clock = Plain(shape).cuda(), Clock(n_steps)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-3)
    torch.set_float32_matmul_precision("high")
    for batch in DataLoader(Windows(random_windows(B * n_steps)), batch_size=B, shuffle=True):
        clock.tick()
        values, labels = batch["past_values"].cuda(), batch["labels"].cuda()
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = model(values)
        binary_cross_entropy_with_logits(logits.float(), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return clock.step_s


CONTENDERS: dict[str, Callable[..., float]] = {
    "ours": ours_s,
    "ours, no graph": lambda *job: ours_s(*job, cuda_graph=False),
    "hf": hf_s,
    "plain": plain_s,
}


def compare(size: str, n_repeats: int) -> None:
    """Print what a step takes each contender, and their time over ours."""
    print(f"\n{size}: N {count_params(SHAPES[size], **SIZES).total:,}, batch {B}, {n_repeats} turns")
    for precision in ("fp32", "bf16"):
        turns = [
            {who: run(SHAPES[size], precision, N_STEPS[who]) for who, run in CONTENDERS.items()}
            for _ in range(n_repeats)
        ]
        for who in CONTENDERS:
            step_s, ratios = median(turn[who] for turn in turns), [turn[who] / turn["ours"] for turn in turns]
            spread = f"{median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(
                f"{who + ' ' + precision:>20}{1e3 * step_s:9.2f} ms{B / step_s:11,.0f} windows/s   {spread}",
                flush=True,
            )


def use(batch_size: int, compiled: str, n_repeats: int) -> None:
    """Print speed, MFU and memory of the large model."""
    torch.cuda.empty_cache()
    data, spec = random_windows(B), run_spec(LARGE, 1)
    steps = [
        ours_s(LARGE, "bf16", WARM_UP + 20, batch_size=batch_size, compiled=compiled)
        for _ in range(n_repeats)
    ]
    device, execution = torch.device("cuda"), ExecutionConfig(device="cuda", precision="bf16")
    mfus = [
        utilisation(
            spec, data, samples_per_s=batch_size / step_s, execution=execution, device=device, n_processes=1
        )
        for step_s in steps
    ]
    predicted = predict_memory(LARGE, **SIZES, micro_batch_size=batch_size, precision="bf16").total
    shown = [f"{100 * mfu:.1f}" for mfu in sorted(mfu for mfu in mfus if mfu is not None)]
    print(
        f"micro-batch {batch_size:5d}, compile {compiled:8}: {1e3 * median(steps):8.2f} ms, "
        f"MFU {' '.join(shown)} %, "
        f"peak {peak_memory_bytes(device) / 2**30:.2f} GiB (predicted {predicted / 2**30:.2f})",
        flush=True,
    )


@contextmanager
def profiled(path: Path) -> Iterator[None]:
    """Write where the device's time went, kernel by kernel."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        yield
    rows = profile.key_averages()
    path.write_text(rows.table(sort_by="self_cuda_time_total", row_limit=40), encoding="utf-8")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--compile", nargs="+", default=["off", "regional"])
    parser.add_argument("--batches", nargs="*", type=int, default=list(LARGE_BATCHES))
    parser.add_argument("--repeats", type=int, default=5, help="turns of all contenders")
    parser.add_argument("--profile", type=Path, help="folder for the profiles of a step")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    for size in asked.sizes:
        compare(size, asked.repeats)
    print(f"\n200M: N {count_params(LARGE, **SIZES).total:,}, bfloat16")
    for batch_size in asked.batches:
        for compiled in asked.compile:
            use(batch_size, compiled, asked.repeats)
            if asked.profile:
                with profiled(asked.profile / f"profile_{batch_size}_{compiled}.txt"):
                    ours_s(LARGE, "bf16", WARM_UP + 5, batch_size=batch_size, compiled=compiled)


if __name__ == "__main__":
    main()
