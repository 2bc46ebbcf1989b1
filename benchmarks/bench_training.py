"""Training speed on one CPU core: our loop against Hugging Face's Trainer and a plain script.

``hf`` is Hugging Face's PatchTST (one channel of T x F values, so that a patch holds all features) under its
Trainer, ``plain`` is nn.TransformerEncoder fed by a DataLoader with one ``.item()`` a step. Width, depth,
heads, feed-forward, patches, dropout, batch, optimizer, clipping and windows are the same. CPU seconds from
step to step of one epoch, without validation, so that other work on the machine counts little; contenders
take turns, and a ratio is made within a turn. The products of matrices alone (``gemm``) are timed in the same
turn. The last line is what an epoch of 26 steps spends on checkpoints, records, progress and MLflow (a local
SQLite file).

    python benchmarks/bench_training.py [--sizes 2M 100K] [--precisions fp32 bf16] [--repeats 5]
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.models.config import PatchTSTConfig
from finscale.models.counting import count_params
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.loop import train
from finscale.training.run_spec import Provenance, RunSpec, plan_run
from finscale.training.winner import SeedRun
from finscale.windows.data import WindowData, WindowSpec
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.standardize import Standardizer

F, T, B, PATCH, STRIDE = 25, 60, 128, 10, 5
SIZES = {"n_features": F, "context_length": T}
SHAPES = {
    "2M": PatchTSTConfig(d_model=128, n_layers=10, n_heads=8, d_ff=512),
    "100K": PatchTSTConfig(d_model=64, n_layers=2, n_heads=4, d_ff=256),
}
N_STEPS = {"2M": 24, "100K": 120}
WARM_UP = 4


def random_windows(n_train: int) -> WindowData:
    n_rows = T - 1 + n_train + 3 * B
    random = np.random.default_rng(0)
    rows = np.split(np.arange(T - 1, n_rows), n_train + B * np.arange(3))
    return WindowData(
        values=random.standard_normal((n_rows, F)).astype(np.float32),
        targets=random.integers(0, 2, n_rows).astype(np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(n_rows) * np.timedelta64(1, "D"),
        origins=dict(zip(("train", "val_select", "val_score", "test"), rows, strict=True)),
        spec=WindowSpec(
            experiment="benchmark",
            task="threshold_1pct",
            touch="high",
            horizon=1,
            context_length=T,
            features=tuple(f"x{number}" for number in range(F)),
            data_hash="random",
            title="Random windows",
        ),
        standardizer=Standardizer(mean=np.zeros(F), std=np.ones(F)),
    )


class Windows(Dataset[dict[str, Tensor]]):
    """The training windows as a script would serve them."""

    def __init__(self, data: WindowData) -> None:
        self.values, self.rows = torch.from_numpy(data.values), data.origins["train"]
        self.labels = torch.from_numpy(data.targets_at("train"))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.rows[index]
        return {"past_values": self.values[row - T + 1 : row + 1], "labels": self.labels[index]}


class HuggingFace(nn.Module):
    """Hugging Face's encoder, mean pooling and one logit."""

    def __init__(self, shape: PatchTSTConfig) -> None:
        from transformers import PatchTSTConfig as TheirConfig
        from transformers import PatchTSTModel

        super().__init__()
        config = TheirConfig(
            num_input_channels=1,
            context_length=T * F,
            patch_length=PATCH * F,
            patch_stride=STRIDE * F,
            d_model=shape.d_model,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            ffn_dim=shape.d_ff,
            norm_type="layernorm",
            pre_norm=True,
            attention_dropout=0.0,
            ff_dropout=0.0,
            path_dropout=shape.dropout,
            positional_dropout=shape.dropout,
            scaling=None,
        )
        self.encoder, self.head = PatchTSTModel(config), nn.Linear(shape.d_model, 1)

    def forward(self, past_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss and the logits, as the Trainer asks."""
        tokens = self.encoder(past_values=past_values.flatten(1).unsqueeze(-1)).last_hidden_state
        logits = self.head(tokens.mean(dim=2).squeeze(1))[:, 0]
        return {"loss": binary_cross_entropy_with_logits(logits.float(), labels), "logits": logits}


class Plain(nn.Module):
    """nn.TransformerEncoder over patches, mean pooling and one logit."""

    def __init__(self, shape: PatchTSTConfig) -> None:
        super().__init__()
        d_model, n_patches = shape.d_model, (T - PATCH) // STRIDE + 1
        layer = nn.TransformerEncoderLayer(
            d_model, shape.n_heads, shape.d_ff, shape.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.embedding = nn.Linear(PATCH * F, d_model)
        self.positions = nn.Parameter(torch.zeros(n_patches, d_model))
        self.encoder = nn.TransformerEncoder(
            layer, shape.n_layers, norm=nn.LayerNorm(d_model), enable_nested_tensor=False
        )
        self.head = nn.Linear(d_model, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Return one logit per window."""
        patches = values.unfold(1, PATCH, STRIDE).flatten(2)
        return self.head(self.encoder(self.embedding(patches) + self.positions).mean(dim=1))[:, 0]


def run_spec(shape: PatchTSTConfig, n_epochs: int) -> RunSpec:
    return plan_run(
        shape,
        TrainingConfig(learning_rate=1e-4, epochs=n_epochs, weight_decay=1e-3, warmup_steps=10),
        experiment=ExperimentConfig(name="benchmark", title="Random windows", data=DataConfig()),
        cell=Cell.parse("2M", 1),
        n_features=F,
        batch=split_batch(B, effective_batch_size=B),
        seed=0,
        provenance=Provenance(data_hash="random"),
    )


def ours_s(shape: PatchTSTConfig, data: WindowData, precision: Any) -> float:
    """Return CPU seconds per step of `finscale.training.loop.train`, from the fourth step on."""
    begins: list[float] = []

    def clock() -> bool:
        begins.append(time.process_time())
        return False

    with tempfile.TemporaryDirectory() as folder:
        execution = ExecutionConfig(device="cpu", precision=precision)
        train(run_spec(shape, 1), data, directory=Path(folder), execution=execution, should_stop=clock)
    return _mean_s(begins)


def hf_s(shape: PatchTSTConfig, data: WindowData, precision: str) -> float:
    """Return CPU seconds per step of the Trainer, from the fourth step on."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **options: Any) -> None:
            ends.append(time.process_time())

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
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        torch.manual_seed(0)
        Trainer(
            model=HuggingFace(shape), args=settings, train_dataset=Windows(data), callbacks=[Clock()]
        ).train()
    return _mean_s(ends)


def plain_s(shape: PatchTSTConfig, data: WindowData, precision: str) -> float:
    """Return CPU seconds per step of the script, from the fourth step on."""
    torch.manual_seed(0)
    model, ends = Plain(shape), list[float]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-3)
    loader = DataLoader(Windows(data), batch_size=B, shuffle=True)
    for batch in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = model(batch["past_values"])
        loss = binary_cross_entropy_with_logits(logits.float(), batch["labels"])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        ends.append(time.process_time())
    return _mean_s(ends)


def _mean_s(instants: list[float]) -> float:
    """Return the mean seconds of a step after the warm-up."""
    return (instants[-1] - instants[WARM_UP - 1]) / (len(instants) - WARM_UP)


def gemm_s(shape: PatchTSTConfig, data: WindowData, precision: str) -> float:
    """Return CPU seconds of the linear maps' products in one step, forward and backward."""
    d, d_ff, n_tokens = shape.d_model, shape.d_ff, B * ((T - PATCH) // STRIDE + 1)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    maps = [(PATCH * F, d), *[(d, 3 * d), (d, d), (d, d_ff), (d_ff, d)] * shape.n_layers]
    tensors = [
        (torch.randn(n_tokens, a).to(kind), torch.randn(b, a).to(kind), torch.randn(n_tokens, b).to(kind))
        for a, b in maps
    ]
    times = []
    for _ in range(WARM_UP):
        began = time.process_time()
        for x, weight, back in tensors:
            x @ weight.T, back @ weight, back.T @ x
        times.append(time.process_time() - began)
    return min(times)


CONTENDERS: dict[str, Callable[[PatchTSTConfig, WindowData, str], float]] = {
    "ours": ours_s,
    "hf": hf_s,
    "plain": plain_s,
    "gemm": gemm_s,
}


def measure(size: str, precisions: list[str], n_repeats: int) -> None:
    shape, data = SHAPES[size], random_windows(B * N_STEPS[size])
    turns = []
    for _ in range(n_repeats):
        jobs = [(who, precision) for precision in precisions for who in CONTENDERS]
        turns.append({job: CONTENDERS[job[0]](shape, data, job[1]) for job in jobs})
    print(f"\n{size}: N {count_params(shape, **SIZES).total:,}, batch {B}, T {T}, F {F}, {n_repeats} turns")
    print(f"{'':>12}{'ms/step':>9}{'min':>8}{'samples/s':>11}   their time / ours: median (min to max)")
    for who, precision in turns[0]:
        times = [turn[who, precision] for turn in turns]
        ratios = [
            f"{named} {_spread([turn[who, precision] / turn['ours', named] for turn in turns])}"
            for named in precisions
        ]
        middle = median(times)
        row = f"{who + ' ' + precision:>12}{1e3 * middle:>9.1f}{1e3 * min(times):>8.1f}{B / middle:>11,.0f}"
        print(f"{row}   {'   '.join(ratios)}")


def overhead(size: str, n_epochs: int = 3) -> tuple[float, float]:
    """Return CPU seconds of a whole training, and those among them that are not spent on training it."""
    import mlflow

    from finscale.runtime.listeners import log_seed_run, watch_training
    from finscale.training import loop
    from finscale.training.checkpoint import Checkpoints

    spent = 0.0

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal spent
            began = time.process_time()
            try:
                return call(*args, **options)
            finally:
                spent += time.process_time() - began

        return wrapped

    data, execution = random_windows(26 * B), ExecutionConfig(device="cpu", checkpoint_every_s=0)
    with tempfile.TemporaryDirectory() as folder, watch_training("benchmark", n_epochs) as listen:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        with (
            mlflow.start_run(),
            patch.object(Checkpoints, "save", timed(Checkpoints.save)),
            patch.object(loop, "write_json", timed(loop.write_json)),
            patch.object(loop, "write_run_spec", timed(loop.write_run_spec)),
            patch.object(loop, "save_best", timed(loop.save_best)),
        ):
            began, spec = time.process_time(), run_spec(SHAPES[size], n_epochs)
            result = train(spec, data, directory=Path(folder), execution=execution, on_event=timed(listen))
            timed(log_seed_run)(SeedRun(spec=spec, result=result, evaluation=None))
            return time.process_time() - began, spent


def _spread(ratios: list[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--repeats", type=int, default=5, help="turns of all contenders")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for size in asked.sizes:
        measure(size, asked.precisions, asked.repeats)
        whole, spent = overhead(size)
        print(
            f"beside training itself, a checkpoint every epoch: {100 * spent / whole:.2f} % of {whole:.1f} s"
        )


if __name__ == "__main__":
    main()
