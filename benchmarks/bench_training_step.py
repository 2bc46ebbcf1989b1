"""CPU seconds per epoch of the training loop against a plain loop, on one thread; the fastest epoch counts.

The plain reference is what most scripts do: every window written out, ``TensorDataset``, ``DataLoader``, one
``.item()`` a step, AdamW as torch builds it. Same model, batch, rows and steps; the ratio is loop / plain.

    python benchmarks/bench_training_step.py [--rounds 5]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset

from finscale.archgrid.batching import split_batch
from finscale.models.config import PatchTSTConfig
from finscale.models.contract import Batch
from finscale.models.counting import arch_id, count_params
from finscale.models.registry import build_model
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.events import EpochEnd, Event
from finscale.training.loop import train
from finscale.training.run_spec import Provenance, RunSpec
from finscale.windows.data import WindowData, WindowSpec
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.standardize import Standardizer

N_TRAIN, N_VAL, N_FEATURES, CONTEXT, BATCH = 3_300, 350, 25, 60, 128
SHAPES = {
    "5K": PatchTSTConfig(d_model=16, n_layers=1, n_heads=2, d_ff=32),
    "50K": PatchTSTConfig(d_model=48, n_layers=2, n_heads=4, d_ff=96),
    "500K": PatchTSTConfig(d_model=128, n_layers=3, n_heads=4, d_ff=384),
}
SIZES = {"n_features": N_FEATURES, "context_length": CONTEXT}


def random_windows() -> WindowData:
    n_rows = CONTEXT - 1 + N_TRAIN + 3 * N_VAL
    random = np.random.default_rng(0)
    rows = np.split(np.arange(CONTEXT - 1, n_rows), N_TRAIN + N_VAL * np.arange(3))
    return WindowData(
        values=random.standard_normal((n_rows, N_FEATURES)).astype(np.float32),
        targets=random.integers(0, 2, n_rows).astype(np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(n_rows) * np.timedelta64(1, "D"),
        origins=dict(zip(("train", "val_select", "val_score", "test"), rows, strict=True)),
        spec=WindowSpec(
            experiment="benchmark",
            task="threshold_1pct",
            touch="high",
            horizon=1,
            context_length=CONTEXT,
            features=tuple(f"x{number}" for number in range(N_FEATURES)),
            data_hash="random",
            title="Random windows",
        ),
        standardizer=Standardizer(mean=np.zeros(N_FEATURES), std=np.ones(N_FEATURES)),
    )


def run_spec(model: PatchTSTConfig, n_epochs: int) -> RunSpec:
    return RunSpec(
        experiment=ExperimentConfig(name="benchmark", title="Random windows", data=DataConfig()),
        budget="5K",
        horizon=1,
        arch_id=arch_id(model, **SIZES),
        n_params=count_params(model, **SIZES).total,
        model=model,
        training=TrainingConfig(
            learning_rate=1e-4, epochs=n_epochs, weight_decay=1e-3, warmup_steps=10, patience=n_epochs
        ),
        batch=split_batch(BATCH, effective_batch_size=BATCH),
        seed=0,
        provenance=Provenance(data_hash="random"),
    )


def loop_epoch_s(model: PatchTSTConfig, data: WindowData, n_epochs: int) -> float:
    """Time `finscale.training.loop.train`, its validation and record keeping included."""
    ends: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, EpochEnd):
            ends.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        execution = ExecutionConfig(device="cpu")
        train(run_spec(model, n_epochs), data, directory=Path(folder), execution=execution, on_event=listen)
    return float(np.diff(ends).min())


def plain_epoch_s(config: PatchTSTConfig, data: WindowData, n_epochs: int) -> float:
    """Time the plain loop, validation included."""
    model = build_model(config, **SIZES, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-3)
    loaders = {
        split: DataLoader(_dataset(data, split), batch_size=BATCH, shuffle=split == "train")
        for split in ("train", "val_select")
    }
    return min(_plain_epoch(model, optimizer, loaders) for _ in range(n_epochs))


def _dataset(data: WindowData, split: str) -> TensorDataset:
    contexts = np.stack([data.values[origin - CONTEXT + 1 : origin + 1] for origin in data.origins[split]])
    return TensorDataset(torch.from_numpy(contexts), torch.from_numpy(data.targets_at(split)))


def _plain_epoch(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, loaders: dict[str, DataLoader]
) -> float:
    began, total = time.process_time(), 0.0
    model.train()
    for values, targets in loaders["train"]:
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(_logits(model, values), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        for values, targets in loaders["val_select"]:
            total += binary_cross_entropy_with_logits(_logits(model, values), targets).item()
    return time.process_time() - began


def _logits(model: torch.nn.Module, values: torch.Tensor) -> torch.Tensor:
    return model(Batch(values=values)).prediction["logits"][:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="epochs per measurement")
    n_epochs = parser.parse_args().rounds + 1
    torch.set_num_threads(1)
    data = random_windows()
    print(f"{'model':>6} {'N':>8} {'loop s/epoch':>13} {'plain s/epoch':>14} {'loop/plain':>11}")
    for name, config in SHAPES.items():
        loop, plain = loop_epoch_s(config, data, n_epochs), plain_epoch_s(config, data, n_epochs)
        n_params = count_params(config, **SIZES).total
        print(f"{name:>6} {n_params:>8} {loop:>13.3f} {plain:>14.3f} {loop / plain:>11.2f}")


if __name__ == "__main__":
    main()
