"""The published forecasting benchmark on our own trainer: ETTh1, 96 hours ahead, 336 hours of context.

PatchTST/42 of Nie et al. (2023, table 3) by its published recipe, with DLinear (Zeng et al. 2023) and the
last value beside it, on all 2,785 test windows and on the first 2,688 (21 batches of 128) that the published
numbers are means of. Errors are in standardised units. No window is dropped in training.

    python benchmarks/bench_etth1.py [ETTh1.csv] [--epochs 36] [--device cpu] [--models patchtst dlinear]
        [--folder DIR]

With ``--folder`` a run that was killed goes on where it stood; the cap ``--epochs`` may grow from run to run.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.datasets.bars import BarsDataset
from finscale.features.compute import compute_features, data_hash
from finscale.features.prepare import prepare_bars
from finscale.models.config import AnyConfig, DLinearConfig, PatchTSTConfig
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.evaluate import evaluate_run
from finscale.training.events import EpochEnd, Event
from finscale.training.heads import head_for
from finscale.training.loop import train
from finscale.training.run_spec import Provenance, RunSpec, plan_run
from finscale.windows.baselines import baseline_table
from finscale.windows.build import build_windows
from finscale.windows.data import WindowData
from finscale.windows.experiment import DataConfig, ExperimentConfig, SplitConfig

CHANNELS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
CONTEXT, HORIZON, N_PUBLISHED = 336, 96, 2_688
PUBLISHED = {"patchtst": (0.375, 0.399), "dlinear": (0.375, 0.399)}

EXPERIMENT = ExperimentConfig(
    name="etth1",
    title="ETTh1, 96 hours ahead",
    data=DataConfig(
        task="forecast",
        timescale="intraday",
        feature_set="channels",
        context_length=CONTEXT,
        split=SplitConfig(dates=("2017-06-26", "2017-10-24", "2018-02-21"), val_select_fraction=1.0),
    ),
)


def read_windows(path: Path) -> tuple[WindowData, pd.DataFrame]:
    """Return the windows of the published split, and the checked table they were cut from."""
    source = {"kind": "file", "path": str(path), "channels": list(CHANNELS)}
    bars = prepare_bars(BarsDataset(source=source).load(), name="etth1", timescale="intraday")
    features = compute_features(bars, list(CHANNELS), timescale="intraday").frame
    windows, _ = build_windows(
        features, bars, experiment=EXPERIMENT, horizon=HORIZON, data_hash=data_hash(bars, list(CHANNELS))
    )
    counts = {split: len(rows) for split, rows in windows.origins.items()}
    assert counts == {"train": 8209, "val_select": 2785, "val_score": 0, "test": 2785}, counts
    return windows, bars


def patchtst(data: WindowData) -> tuple[AnyConfig, TrainingConfig]:
    """Return PatchTST/42 and its recipe: rate 1/25 in epoch 1, flat to epoch 4, then times 0.9 an epoch.

    The published script builds a one-cycle schedule and then sets the rate by hand: what is left of the cycle
    is its first rate and its first momentum, Adam's 0.95.
    """
    model = PatchTSTConfig(
        d_model=16,
        n_layers=3,
        n_heads=4,
        d_ff=128,
        dropout=0.3,
        patch_length=16,
        stride=8,
        pad_end=True,
        channels="independent",
        instance_norm="revin",
        norm="batch_norm",
        norm_first=False,
        pooling="flatten",
        initialisation="torch",
        head=head_for(data.spec),
    )
    n_epochs, batch = 36, 128
    training = TrainingConfig(
        learning_rate=1e-4,
        epochs=n_epochs,
        weight_decay=0.0,
        optimizer="adam",
        betas=(0.95, 0.999),
        schedule="exponential",
        decay_per_epoch=0.9,
        flat_epochs=4,
        warmup_steps=-(-len(data.origins["train"]) // batch),
        warmup_factor=1 / 25,
        clip_norm=None,
        patience=n_epochs,
        effective_batch_size=batch,
    )
    return model, training


def dlinear(data: WindowData) -> tuple[AnyConfig, TrainingConfig]:
    """Return DLinear: rate 0.005, halved every epoch, batches of 32, at most 10 epochs, patience 3."""
    training = TrainingConfig(
        learning_rate=5e-3,
        epochs=10,
        weight_decay=0.0,
        warmup_steps=0,
        optimizer="adam",
        schedule="exponential",
        decay_per_epoch=0.5,
        clip_norm=None,
        patience=3,
        min_delta=0.0,
        effective_batch_size=32,
    )
    return DLinearConfig(head=head_for(data.spec)), training


MODELS: dict[str, Callable[[WindowData], tuple[AnyConfig, TrainingConfig]]] = {
    "patchtst": patchtst,
    "dlinear": dlinear,
}


def plan(name: str, data: WindowData, *, n_epochs: int, seed: int) -> RunSpec:
    """Return the specification of one model; a cap on the epochs leaves its schedule as it is."""
    model, training = MODELS[name](data)
    return plan_run(
        model,
        training.model_copy(update={"max_epochs": n_epochs}),
        experiment=EXPERIMENT,
        cell=Cell.parse("80K" if name == "patchtst" else "65K", HORIZON),
        n_features=data.n_features,
        batch=split_batch(training.effective_batch_size, effective_batch_size=training.effective_batch_size),
        seed=seed,
        provenance=Provenance(data_hash=data.spec.data_hash),
    )


def train_and_score(
    name: str, data: WindowData, *, folder: Path, n_epochs: int, seed: int, execution: ExecutionConfig
) -> pd.DataFrame:
    """Return the errors of the best epoch, one row per test window."""

    def listen(event: Event) -> None:
        if isinstance(event, EpochEnd):
            losses = f"train {event.train_loss:.4f}  validation {event.val_loss:.4f}"
            rest = f"best {event.best_val_loss:.4f} in {event.best_epoch}  {event.seconds:.0f} s"
            print(f"{name} epoch {event.epoch:2d}  {losses}  {rest}", flush=True)

    spec, began = plan(name, data, n_epochs=n_epochs, seed=seed), time.perf_counter()
    result = train(spec, data, directory=folder, execution=execution, on_event=listen)
    print(f"{name}: N {result.n_params}, {result.outcome}, {time.perf_counter() - began:.0f} s", flush=True)
    return evaluate_run(folder, data, execution=execution, splits=["test"]).losses


def last_value(data: WindowData, bars: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of the last value, one row per test window."""
    return baseline_table(data, bars).query("split == 'test' and baseline == 'last_value'")


def print_table(tables: dict[str, pd.DataFrame]) -> None:
    heads = ("MSE all", "MAE all", f"MSE {N_PUBLISHED}", f"MAE {N_PUBLISHED}", "published MSE / MAE")
    print(f"{'model':>12}" + "".join(f"{head:>12}" for head in heads[:4]) + f"  {heads[4]}")
    for name, rows in tables.items():
        errors = rows[["squared_error", "absolute_error"]]
        numbers = [*errors.mean(), *errors.iloc[:N_PUBLISHED].mean()]
        published = " / ".join(f"{number:.3f}" for number in PUBLISHED.get(name, ()))
        print(f"{name:>12}" + "".join(f"{number:>12.4f}" for number in numbers) + f"  {published}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = Path(os.environ.get("FINSCALE_TEST_DATA", ".")) / "ETTh1.csv"
    parser.add_argument("path", nargs="?", type=Path, default=default, help="the table, as published")
    parser.add_argument("--epochs", type=int, default=36, help="cap on the epochs of every model")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seed", type=int, default=2021)
    parser.add_argument(
        "--folder", type=Path, help="keeps checkpoints and records; a temporary one if left out"
    )
    asked = parser.parse_args()
    data, bars = read_windows(asked.path)
    execution = ExecutionConfig(device=asked.device)
    tables = {"last value": last_value(data, bars)}
    with tempfile.TemporaryDirectory() as temporary:
        for name in asked.models:
            folder = (asked.folder or Path(temporary)) / name
            settings = {"n_epochs": asked.epochs, "seed": asked.seed, "execution": execution}
            tables[name] = train_and_score(name, data, folder=folder, **settings)
            print_table(tables)


if __name__ == "__main__":
    main()
