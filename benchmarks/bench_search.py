"""Regret of the samplers on synthetic losses over the real 20M grid.

``python benchmarks/bench_search.py [--repeats 5] [--trials 50] [--workers 1]``

Regret is the noise-free loss of the best trial so far above the least loss of the space; its unit is about
the spread between a good and a poor architecture. ``smooth`` is a bowl in shape, size, heads and training
parameters, where deeper models want smaller learning rates; ``rugged`` adds ripples, a constant of each
architecture, and observation noise. With ``--workers`` k, a trial is told k - 1 asks later.
"""

import argparse
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.seeding import generator
from finscale.search.config import SearchConfig
from finscale.search.coordinates import COORDINATES, coordinates
from finscale.search.proposals import Proposal, Proposer


class Loss:
    """A loss over grid rows and training parameters, with its optimum drawn from a seed."""

    def __init__(self, grid: pd.DataFrame, *, rugged: bool, seed: int) -> None:
        rng = generator(seed, "loss")
        points = coordinates(grid)
        self.points = dict(zip(grid["arch_id"], points, strict=True))
        self.rugged, self.low, self.width = rugged, points.min(axis=0), np.ptp(points, axis=0) + 1e-9
        self.optimum = dict(zip(COORDINATES, rng.uniform(0.2, 0.8, 4), strict=True))
        self.training = dict(
            zip(("lr", "wd", "dropout", "epochs", "warmup"), rng.uniform(0, 1, 5), strict=True)
        )
        self.phase = rng.uniform(0, 2 * np.pi, 3)
        offsets = rng.normal(0, 0.05 if rugged else 0.0, len(grid))
        self.offset = dict(zip(grid["arch_id"], offsets, strict=True))
        self.least = self._least(grid, points)

    def __call__(self, proposal: Proposal) -> float:
        """Return the loss without noise."""
        point = self.points[proposal.row["arch_id"]]
        return self._architecture(proposal.row["arch_id"], point) + self._training(
            _unit(proposal.training), point
        )

    def _architecture(self, arch_id: str, point: np.ndarray) -> float:
        unit = dict(zip(COORDINATES, (point - self.low) / self.width, strict=True))
        weights = {"shape": 2.0, "size": 0.3, "log2_heads": 0.3, "ff_ratio": 0.1}
        bowl = sum(weights[name] * (unit[name] - self.optimum[name]) ** 2 for name in COORDINATES)
        ripple = 0.08 * np.sin(18 * unit["shape"] + self.phase[0]) if self.rugged else 0.0
        return float(bowl + ripple + self.offset[arch_id])

    def _training(self, unit: Mapping[str, float], point: np.ndarray) -> float:
        shape = (point[0] - self.low[0]) / self.width[0]
        wanted = {**self.training, "lr": 0.5 * self.training["lr"] + 0.5 * shape}
        weights = {"lr": 1.5, "wd": 0.3, "dropout": 0.4, "epochs": 0.2, "warmup": 0.1}
        bowl = sum(weights[name] * (unit[name] - wanted[name]) ** 2 for name in weights)
        ripple = 0.05 * np.sin(15 * unit["lr"] + self.phase[1]) if self.rugged else 0.0
        return float(bowl + ripple)

    def _least(self, grid: pd.DataFrame, points: np.ndarray) -> float:
        """Search the separable parts by brute force, row by row."""
        return min(
            self._architecture(arch_id, point) + self._least_training(point)
            for arch_id, point in zip(grid["arch_id"], points, strict=True)
        )

    def _least_training(self, point: np.ndarray) -> float:
        best = dict(self.training)
        for name, values in _LEVELS.items():
            best[name] = min(values, key=lambda v, n=name: self._training({**best, n: v}, point))
        return self._training(best, point)


_LEVELS = {
    "lr": np.linspace(0, 1, 201),
    "wd": np.linspace(0, 1, 101),
    "dropout": np.linspace(0, 1, 101),
    "epochs": np.array([0, 0.5, 1]),
    "warmup": np.array([0, 1, 2, 3]) / 3,
}


def _unit(training: Mapping[str, Any]) -> dict[str, float]:
    """Map training parameters of the default space to 0..1."""
    return {
        "lr": np.log(training["learning_rate"] / 1e-4) / np.log(10),
        "wd": np.log(training["weight_decay"] / 1e-4) / np.log(50),
        "dropout": (training["dropout"] - 0.1) / 0.2,
        "epochs": (training["epochs"] - 50) / 50,
        "warmup": (100, 200, 300, 500).index(training["warmup_steps"]) / 3,
    }


def search(
    grid: pd.DataFrame, loss: Loss, *, sampler: str, n_trials: int, n_workers: int, seed: int
) -> list[float]:
    """Return the regret after every told trial."""
    proposer = Proposer(grid, SearchConfig(sampler=sampler, n_trials=n_trials), seed=seed)
    study, noise = optuna.create_study(), generator(seed, "noise")
    pending: deque[tuple[int, float]] = deque()
    regrets: list[float] = []
    for number in range(n_trials):
        proposal = proposer.next(study.get_trials(deepcopy=False))
        assert proposal is not None
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=proposal.params,
                distributions=proposer.distributions,
                user_attrs=proposal.attributes,
            )
        )
        pending.append((number, loss(proposal)))
        if len(pending) == n_workers or number == n_trials - 1:
            for told, value in [
                pending.popleft() for _ in range(len(pending) if number == n_trials - 1 else 1)
            ]:
                study.tell(told, value + (noise.normal(0, 0.02) if loss.rugged else 0.0))
                regrets.append(value - loss.least)
    return list(np.minimum.accumulate(regrets))


def main() -> None:
    """Print mean regret (and seconds per ask) by loss and sampler."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    grid = enumerate_grid(20_000_000, n_features=25, context_length=60)
    print(f"20M grid: {len(grid)} rows; {arguments.repeats} repeats, {arguments.workers} workers")
    print(f"{'loss':8}{'sampler':9}{'regret@25':>12}{f'regret@{arguments.trials}':>12}{'sd':>8}{'s/ask':>8}")
    for rugged in (False, True):
        for sampler in ("random", "gp"):
            started, curves = time.perf_counter(), []
            for repeat in range(arguments.repeats):
                loss = Loss(grid, rugged=rugged, seed=repeat)
                curves.append(
                    search(
                        grid,
                        loss,
                        sampler=sampler,
                        n_trials=arguments.trials,
                        n_workers=arguments.workers,
                        seed=repeat,
                    )
                )
            seconds = (time.perf_counter() - started) / (arguments.repeats * arguments.trials)
            at_25 = np.mean([curve[min(24, len(curve) - 1)] for curve in curves])
            last = np.array([curve[-1] for curve in curves])
            name = "rugged" if rugged else "smooth"
            print(
                f"{name:8}{sampler:9}{at_25:12.3f}{last.mean():12.3f}{last.std():8.3f}{seconds:8.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
