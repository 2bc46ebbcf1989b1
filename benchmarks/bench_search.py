"""Regret of the samplers on synthetic losses over the real 20M grid, and what a search costs beside training.

``python benchmarks/bench_search.py [--repeats 30] [--trials 50] [--workers 1] [--losses bowl ...]``
``python benchmarks/bench_search.py --overhead [--trials 200] [--mlflow]``

Regret is the noise-free loss of the best trial so far above the least loss of the space. ``ours`` is what the
product does by default: corners, random stratum, Gaussian process; the others are Optuna as it comes, with
the architecture as an index into the grid sorted by size, as a category, or as our coordinates. Every
repeat has its loss and its seeds, the same for all, so that differences are paired. With ``--workers`` k,
a trial is told k - 1 asks later.
"""

import argparse
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import GPSampler, TPESampler
from optuna.trial import TrialState, create_trial

from finscale.archgrid.enumerate import enumerate_grid
from finscale.core.seeding import generator
from finscale.search.config import SearchConfig
from finscale.search.coordinates import COORDINATES, Coordinates
from finscale.search.proposals import Proposer
from search_losses import RUGGED, SHAPES, SMOOTH, Loss

Found = tuple[int, dict[str, Any]]
_SPACE = SearchConfig().space.bind("patchtst")
_N_RESAMPLES = 10_000


class Searcher(Protocol):
    """Ask for a row of the grid with training parameters, under a number; tell its loss later."""

    def ask(self) -> Found:
        """Return what to train next."""
        ...

    def tell(self, number: int, value: float) -> None:
        """Learn what it came to."""
        ...


class Product:
    """The product's own proposals, over a study."""

    def __init__(self, grid: pd.DataFrame, *, sampler: str | None, n_trials: int, seed: int) -> None:
        self._proposer = Proposer(grid, SearchConfig(sampler=sampler, n_trials=n_trials), _SPACE, seed=seed)
        self._study = optuna.create_study()
        self._positions = {arch_id: k for k, arch_id in enumerate(grid["arch_id"])}

    def ask(self) -> Found:
        """Enter the next trial."""
        proposal = self._proposer.next(self._study.get_trials(deepcopy=False))
        assert proposal is not None
        trial = create_trial(
            state=TrialState.RUNNING,
            params=proposal.params,
            distributions={name: self._proposer.distributions[name] for name in proposal.params},
            user_attrs=proposal.attributes,
        )
        self._study.add_trial(trial)
        return self._positions[proposal.row["arch_id"]], dict(proposal.training)

    def tell(self, number: int, value: float) -> None:
        """Tell the study."""
        self._study.tell(number, value)


class Plain:
    """Optuna's ask and tell; ``row`` turns the parameters of an architecture into a row of the grid."""

    def __init__(
        self,
        sampler: optuna.samplers.BaseSampler,
        architecture: dict[str, BaseDistribution],
        row: Callable[[dict[str, Any]], int],
    ) -> None:
        self._study, self._row = optuna.create_study(sampler=sampler), row
        self._distributions = {**architecture, **_SPACE.free}
        self._asked: list[optuna.trial.Trial] = []

    def ask(self) -> Found:
        """Enter the next trial."""
        trial = self._study.ask(self._distributions)
        self._asked.append(trial)
        return self._row(trial.params), {name: trial.params[name] for name in _SPACE.free}

    def tell(self, number: int, value: float) -> None:
        """Tell the study."""
        self._study.tell(self._asked[number], value)


def _on_index(grid: pd.DataFrame, sampler: optuna.samplers.BaseSampler) -> Plain:
    by_size = np.argsort(grid["n_params"].to_numpy(), kind="stable")
    index = IntDistribution(0, len(grid) - 1)
    return Plain(sampler, {"index": index}, lambda params: int(by_size[params["index"]]))


def _on_category(grid: pd.DataFrame, sampler: optuna.samplers.BaseSampler) -> Plain:
    arch_ids = list(grid["arch_id"])
    category = CategoricalDistribution(arch_ids)
    return Plain(sampler, {"arch_id": category}, lambda params: arch_ids.index(params["arch_id"]))


def _on_coordinates(grid: pd.DataFrame, sampler: optuna.samplers.BaseSampler) -> Plain:
    rows = Coordinates.of(grid)
    spans = zip(COORDINATES, rows.points.min(axis=0), rows.points.max(axis=0), strict=True)
    distributions = {
        name: optuna.distributions.FloatDistribution(float(low), float(high)) for name, low, high in spans
    }
    return Plain(
        sampler,
        distributions,
        lambda params: rows.nearest(np.array([params[name] for name in COORDINATES])),
    )


SEARCHERS: dict[str, Callable[[pd.DataFrame, int, int], Searcher]] = {
    "ours": lambda grid, n, seed: Product(grid, sampler=None, n_trials=n, seed=seed),
    "random": lambda grid, n, seed: Product(grid, sampler="sample", n_trials=n, seed=seed),
    "our tpe": lambda grid, n, seed: Product(grid, sampler="tpe", n_trials=n, seed=seed),
    "qmc": lambda grid, n, seed: Product(grid, sampler="qmc", n_trials=n, seed=seed),
    "tpe index": lambda grid, n, seed: _on_index(grid, TPESampler(seed=seed)),
    "tpe category": lambda grid, n, seed: _on_category(grid, TPESampler(seed=seed)),
    "gp index": lambda grid, n, seed: _on_index(grid, GPSampler(seed=seed)),
    "gp coordinates": lambda grid, n, seed: _on_coordinates(grid, GPSampler(seed=seed)),
}


def regrets(searcher: Searcher, loss: Loss, *, n_trials: int, n_workers: int, seed: int) -> list[float]:
    """Return the regret of the best trial after every told one."""
    noise, pending, found = generator(seed, "noise"), deque[tuple[int, float]](), list[float]()
    for number in range(n_trials):
        pending.append((number, loss(*searcher.ask())))
        while pending and (len(pending) == n_workers or number == n_trials - 1):
            told, value = pending.popleft()
            searcher.tell(told, value + float(noise.normal(0, loss.noise)))
            found.append(value - loss.least)
    return np.minimum.accumulate(found).tolist()


def race(grid: pd.DataFrame, arguments: argparse.Namespace, shape: str) -> dict[str, NDArray[np.float64]]:
    """Return the last regret of every searcher and repeat on one shape of loss, printing means."""
    n_trials, last = arguments.trials, {}
    for name in arguments.searchers:
        started, curves = time.process_time(), []
        for seed in range(arguments.repeats):
            searcher, loss = SEARCHERS[name](grid, n_trials, seed), Loss(grid, shape, seed=seed)
            curves.append(regrets(searcher, loss, n_trials=n_trials, n_workers=arguments.workers, seed=seed))
        seconds = (time.process_time() - started) / (arguments.repeats * n_trials)
        last[name] = np.array([curve[-1] for curve in curves])
        middle = np.mean([curve[len(curve) // 2 - 1] for curve in curves])
        low, high = _interval(last[name])
        columns = f"{middle:9.3f}{last[name].mean():9.3f}  [{low:.3f}, {high:.3f}]{1000 * seconds:9.0f} ms"
        print(f"{shape:9}{name:16}{columns}", flush=True)
    return last


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Bootstrap the mean over repeats: 95 % between the percentiles."""
    return _percentiles(values[_draws(len(values))].mean(axis=1))


def _percentiles(drawn: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _draws(n: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(n, size=(_N_RESAMPLES, n))


def compare(last: dict[str, dict[str, NDArray[np.float64]]]) -> None:
    """Print by how much our mean regret is lower than every other's, paired by loss and seed."""
    print(f"\n{'ours is lower than':26}{'smooth':>26}{'rugged':>26}")
    others = [name for name in next(iter(last.values())) if name != "ours"]
    for other in others:
        columns = [_lower(last, [s for s in last if s in kind], other) for kind in (SMOOTH, RUGGED)]
        print(f"{other:26}" + "".join(f"{column:>26}" for column in columns))


def _lower(last: dict[str, dict[str, NDArray[np.float64]]], shapes: list[str], other: str) -> str:
    if not shapes:
        return "-"
    ours, theirs = (np.mean([last[shape][name] for shape in shapes], axis=0) for name in ("ours", other))
    draws = _draws(len(ours))
    low, high = _percentiles(1 - ours[draws].mean(axis=1) / theirs[draws].mean(axis=1))
    return f"{1 - ours.mean() / theirs.mean():.0%} [{low:.0%}, {high:.0%}]"


def main() -> None:
    """Race the searchers, or measure the overhead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--losses", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--searchers", nargs="+", choices=SEARCHERS, default=list(SEARCHERS))
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--mlflow", action="store_true", help="with --overhead: log every trial")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if arguments.overhead:
        # it imports MLflow, which a race does not need
        from bench_search_overhead import print_overhead

        print_overhead(n_trials=arguments.trials, with_mlflow=arguments.mlflow)
        return
    grid = enumerate_grid(20_000_000, n_features=25, context_length=60)
    effort = f"{arguments.repeats} repeats, {arguments.trials} trials, {arguments.workers} workers"
    print(f"20M grid of {len(grid)} rows; {effort}")
    print(f"{'loss':9}{'searcher':16}{'halfway':>9}{'regret':>9}  {'95 %':16}{'a trial':>10}")
    last = {shape: race(grid, arguments, shape) for shape in arguments.losses}
    if "ours" in arguments.searchers:
        compare(last)


if __name__ == "__main__":
    main()
