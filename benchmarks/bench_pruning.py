"""What pruning saves in epochs and costs in loss, on a cell of the demo study.

Real searches of the smallest demo budget, on the demo's windows (``make run`` builds them). The demo itself
trains one or two epochs, of which nothing can be saved, so the space is that of ``conf/base``: schedules of
50, 75 and 100 epochs, patience 10. Every contender searches with the same seeds; ``gp`` without pruning is
the default of a search, and a pruner brings ``tpe`` with it, so ``tpe`` without pruning stands between them.
``saved`` is the share of the epochs of ``gp``, ``cost`` the best loss less that of ``gp``; means over seeds,
then the range.

    python benchmarks/bench_pruning.py [--windows data/demo/05_model_input/sp500_demo_h1] [--seeds 3]
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd

from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.budgets import Cell
from finscale.models.config import PatchTSTConfig
from finscale.search.config import SearchConfig
from finscale.search.run import TRIALS_FILE, run_search
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import Provenance
from finscale.windows.data import WindowData, load_windows
from finscale.windows.experiment import DataConfig, ExperimentConfig

TOLERANCE = 0.25
DEMO = ExperimentConfig(
    name="sp500_demo",
    title="Demo",
    data=DataConfig(source="sp500", task="threshold_1pct", touch="high", context_length=60),
)
BASE = PatchTSTConfig(d_model=8, n_layers=1, n_heads=1, d_ff=16, patch_length=10, stride=10)
CONTENDERS: Mapping[str, Mapping[str, Any]] = {
    "gp": {"sampler": "gp"},
    "tpe": {"sampler": "tpe"},
    "tpe, asha": {"pruner": "asha"},
    "tpe, hyperband": {"pruner": "hyperband"},
    "tpe, median": {"pruner": "median"},
}


@dataclass(frozen=True)
class Searched:
    """Epochs trained, best loss and trials pruned of one search."""

    n_epochs: int
    best: float
    n_pruned: int


def search(windows: Path, data: WindowData, grid: pd.DataFrame, config: SearchConfig, seed: int) -> Searched:
    with tempfile.TemporaryDirectory() as folder:
        run_search(
            config,
            experiment=DEMO,
            cell=Cell.parse("5K", data.spec.horizon),
            grid=grid,
            tolerance=TOLERANCE,
            windows_directory=windows,
            study_directory=Path(folder),
            execution=ExecutionConfig(device="cpu", checkpoint_every_s=3600),
            training_defaults={},
            provenance=Provenance(data_hash=data.spec.data_hash),
            baselines={},
            seed=seed,
        )
        trials = pd.read_parquet(Path(folder) / TRIALS_FILE)
    counted = trials["stopped_epoch"].where(trials["pruned_epoch"].isna(), trials["pruned_epoch"])
    return Searched(int(counted.sum()), float(trials["value"].min()), int(trials["pruned_epoch"].count()))


def compare(windows: Path, *, seeds: Sequence[int], contenders: Sequence[str], n_trials: int) -> None:
    data = load_windows(windows)
    grid = enumerate_grid(
        5_000, n_features=data.n_features, context_length=60, base=BASE, tolerance=TOLERANCE
    )
    found: dict[str, list[Searched]] = {name: [] for name in contenders}
    # contenders take turns, so that what is interrupted still compares
    for seed in seeds:
        for name in contenders:
            config = SearchConfig(n_trials=n_trials, **CONTENDERS[name])
            found[name].append(search(windows, data, grid, config, seed))
        show(found)


def show(found: Mapping[str, Sequence[Searched]]) -> None:
    reference = found["gp"]
    n_epochs = sum(one.n_epochs for one in reference)
    print(f"{len(reference)} seeds\n{'':16}{'epochs':>8}{'pruned':>8}{'saved':>8}{'cost':>9}   its range")
    for name, searches in found.items():
        epochs, pruned = (mean(getattr(one, what) for one in searches) for what in ("n_epochs", "n_pruned"))
        saved = 1 - epochs * len(searches) / n_epochs
        costs = [one.best - other.best for one, other in zip(searches, reference, strict=True)]
        row = f"{name:16}{epochs:8.0f}{pruned:8.1f}{saved:8.0%}{mean(costs):+9.4f}"
        print(f"{row}   {min(costs):+.4f} to {max(costs):+.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--windows", type=Path, default=Path("data/demo/05_model_input/sp500_demo_h1"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    asked = parser.parse_args()
    names = ["gp", *(name for name in asked.contenders if name != "gp")]
    compare(asked.windows, seeds=range(asked.seeds), contenders=names, n_trials=asked.trials)


if __name__ == "__main__":
    main()
