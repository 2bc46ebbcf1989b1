"""Synthetic losses over a grid of architectures and the five training parameters of the default space.

Their unit is about the spread between a good and a poor architecture. U a unit point, (n, 9): shape, size,
log2_heads, ff_ratio over what the grid spans, then learning rate, weight decay, dropout, epochs, warm-up over
what the space spans. Every loss draws its optimum from its seed.

``bowl``     quadratic in every coordinate; deeper models want smaller learning rates
``valley``   a narrow diagonal valley: the learning rate must follow depth, and dropout weight decay
``cliff``    flat far away, steep above a learning rate that falls with depth: what divergence looks like
``ripples``  the bowl with waves, a constant of every architecture, and noise
``steps``    the valley, widened, with a constant of every width and every number of heads, and noise
``noisy``    the bowl, with noise of a fifth of what its losses spread by
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finscale.core.seeding import generator
from finscale.search.coordinates import COORDINATES, coordinates

__all__ = ["RUGGED", "SHAPES", "SMOOTH", "Loss"]

Units = NDArray[np.float64]
_WEIGHTS = np.array([2.0, 0.3, 0.3, 0.1, 1.5, 0.3, 0.4, 0.2, 0.1])
_SHAPE, _LR, _WD, _DROPOUT = 0, 4, 5, 6
_LEVELS = (
    *(np.linspace(0, 1, 101) for _ in range(3)),
    np.array([0, 0.5, 1]),
    np.array([0, 1, 2, 3]) / 3,
)


def _bowl(units: Units, optimum: Units) -> Units:
    wanted = np.tile(optimum, (len(units), 1))
    wanted[:, _LR] = 0.5 * optimum[_LR] + 0.5 * units[:, _SHAPE]
    return np.square(units - wanted) @ _WEIGHTS


def _valley(units: Units, optimum: Units, *, narrowness: float = 6.0) -> Units:
    across = units[:, _LR] - optimum[_LR] - 0.8 * (units[:, _SHAPE] - optimum[_SHAPE])
    beside = units[:, _DROPOUT] - optimum[_DROPOUT] + 0.7 * (units[:, _WD] - optimum[_WD])
    along = 0.4 * np.square(units - optimum) @ _WEIGHTS
    return np.log1p(along + narrowness * np.square(across) + np.square(beside))


def _cliff(units: Units, optimum: Units) -> Units:
    distance = np.square(units - optimum) @ _WEIGHTS
    edge = 0.4 + 0.5 * optimum[_LR] + 0.5 * (units[:, _SHAPE] - optimum[_SHAPE])
    return 1 - np.exp(-1.5 * distance) + np.logaddexp(0, 25 * (units[:, _LR] - edge)) / 8


def _ripples(units: Units, optimum: Units) -> Units:
    phase = 2 * np.pi * optimum
    waves = 0.08 * np.sin(18 * units[:, _SHAPE] + phase[0]) + 0.05 * np.sin(15 * units[:, _LR] + phase[1])
    return _bowl(units, optimum) + waves


def _steps(units: Units, optimum: Units) -> Units:
    return _valley(units, optimum, narrowness=2.0)


SMOOTH: dict[str, Callable[[Units, Units], Units]] = {"bowl": _bowl, "valley": _valley, "cliff": _cliff}
RUGGED: dict[str, Callable[[Units, Units], Units]] = {"ripples": _ripples, "steps": _steps, "noisy": _bowl}
SHAPES = {**SMOOTH, **RUGGED}
_NOISE = {"ripples": 0.02, "steps": 0.02, "noisy": 0.08}


class Loss:
    """A loss over the rows of ``grid`` and training parameters; ``least`` is its least value."""

    def __init__(self, grid: pd.DataFrame, shape: str, *, seed: int) -> None:
        rng = generator(seed, "loss")
        points = coordinates(grid)[:, : len(COORDINATES)]
        self.architectures = (points - points.min(axis=0)) / (np.ptp(points, axis=0) + 1e-9)
        self._shape = SHAPES[shape]
        self._optimum = np.concatenate([rng.uniform(0.2, 0.8, 4), rng.uniform(0, 1, 5)])
        self._offsets = _offsets(grid, shape, rng)
        self.noise = _NOISE.get(shape, 0.0)
        self.least = self._least()

    def __call__(self, position: int, training: Mapping[str, Any]) -> float:
        """Return the loss of one row without noise."""
        units = np.concatenate([self.architectures[position], _unit(training)])
        return float(self._values(units[None], np.array([position]))[0])

    def _values(self, units: Units, positions: NDArray[np.int64]) -> Units:
        return self._shape(units, self._optimum) + self._offsets[positions]

    def _least(self) -> float:
        """Descend coordinate by coordinate from several starts, in all rows at once."""
        rng, n_rows = np.random.default_rng(0), len(self.architectures)
        starts = [self._optimum[4:], *rng.uniform(0, 1, (3, 5))]
        return min(self._descend(np.tile(start, (n_rows, 1))) for start in starts)

    def _descend(self, training: Units, *, n_sweeps: int = 4) -> float:
        positions = np.arange(len(training))
        for _ in range(n_sweeps):
            for dimension, levels in enumerate(_LEVELS):
                tried = np.repeat(training[:, None, :], len(levels), axis=1)
                tried[:, :, dimension] = levels
                units = np.concatenate(
                    [np.repeat(self.architectures, len(levels), axis=0), tried.reshape(-1, 5)], axis=1
                )
                values = self._values(units, np.repeat(positions, len(levels))).reshape(len(training), -1)
                training[:, dimension] = levels[values.argmin(axis=1)]
        return float(values.min())


def _offsets(grid: pd.DataFrame, shape: str, rng: np.random.Generator) -> Units:
    """Draw what an architecture adds to its loss whatever the training: no coordinate tells it."""
    if shape == "ripples":
        return rng.normal(0, 0.05, len(grid))
    if shape != "steps":
        return np.zeros(len(grid))
    drawn = np.zeros(len(grid))
    for column in ("d_model", "n_heads"):
        codes, levels = pd.factorize(grid[column])
        drawn += rng.normal(0, 0.05, len(levels))[codes]
    return drawn


def _unit(training: Mapping[str, Any]) -> Units:
    """Map training parameters of the default space to 0..1."""
    return np.array(
        [
            np.log(training["learning_rate"] / 1e-4) / np.log(10),
            np.log(training["weight_decay"] / 1e-4) / np.log(50),
            (training["dropout"] - 0.1) / 0.2,
            (training["epochs"] - 50) / 50,
            (100, 200, 300, 500).index(training["warmup_steps"]) / 3,
        ]
    )
