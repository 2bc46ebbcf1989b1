"""Many small minimisations at once: damped Newton inside a box, one problem per row.

S problems, k parameters each. Each iteration evaluates all unfinished problems together, steps along
``(|H| + damping I)**-1 g`` (eigenvalues by their absolute value, so a saddle is left downhill: Dauphin et al.
2014, section 4) and accepts what falls, else raises the damping (Levenberg 1944). A parameter at its bound
whose gradient points outwards is held (Bertsekas 1982).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Minimum", "Surface", "minimise"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
_FLOOR = 1e-13
_STEEPEST = 1e12
_PREDICTED = 1e-13


@dataclass(frozen=True)
class Surface:
    """The objective at one point of every problem.

    Attributes
    ----------
    value : ndarray, shape (S,)
    gradient : ndarray, shape (S, k)
    hessian : ndarray, shape (S, k, k)
    scale : ndarray, shape (S, k)
        The size of the terms that the gradient sums: what its rounding and its smallness are measured by.
    """

    value: Floats
    gradient: Floats
    hessian: Floats
    scale: Floats


@dataclass(frozen=True)
class Minimum:
    """Where each problem ended.

    Attributes
    ----------
    theta : ndarray, shape (S, k)
    value : ndarray, shape (S,)
    relative_gradient : ndarray, shape (S,)
        Largest gradient entry not held by a bound, over its ``scale``.
    n_iterations : int
        Of the slowest problem.
    """

    theta: Floats
    value: Floats
    relative_gradient: Floats
    n_iterations: int


@dataclass
class _State:
    theta: Floats
    surface: Surface
    damping: Floats
    done: NDArray[np.bool_]


def minimise(
    evaluate: Callable[[Floats, Rows], Surface],
    start: Floats,
    *,
    low: Floats,
    high: Floats,
    max_iterations: int = 200,
) -> Minimum:
    """Minimise every problem from its start.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(theta, rows)`` returns the surface of problems ``rows`` at ``theta`` (len(rows), k).
    start, low, high : ndarray, shape (S, k)
        ``low <= high``; where they are equal the parameter is fixed.
    """
    theta = np.clip(start, low, high)
    surface = evaluate(theta, np.arange(len(theta)))
    state = _State(theta, surface, np.full(len(theta), 1e-3), np.zeros(len(theta), dtype=bool))
    n_iterations = 0
    while n_iterations < max_iterations and not state.done.all():
        rows = np.flatnonzero(~state.done)
        _advance(evaluate, state, rows, low=low[rows], high=high[rows])
        n_iterations += 1
    gradient = np.where(_held(state.theta, state.surface.gradient, low, high), 0.0, state.surface.gradient)
    scale = np.maximum(state.surface.scale, np.finfo(np.float64).tiny)
    return Minimum(state.theta, state.surface.value, np.abs(gradient / scale).max(axis=1), n_iterations)


def _advance(
    evaluate: Callable[[Floats, Rows], Surface], state: _State, rows: Rows, *, low: Floats, high: Floats
) -> None:
    theta, damping, here = state.theta[rows], state.damping[rows], _take(state.surface, rows)
    held = _held(theta, here.gradient, low, high)
    step, decrement = _step(here, held, damping)
    trial = np.clip(theta + step, low, high)
    there = evaluate(trial, rows)
    better = there.value < here.value
    state.theta[rows[better]] = trial[better]
    _put(state.surface, rows[better], there, better)
    state.damping[rows] = np.where(better, np.maximum(damping * 0.1, 1e-14), damping * 8.0)
    settled = decrement <= _PREDICTED * here.value
    state.done[rows] = settled | (state.damping[rows] > _STEEPEST) | (here.value == 0)


def _held(theta: Floats, gradient: Floats, low: Floats, high: Floats) -> NDArray[np.bool_]:
    return ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))


def _step(here: Surface, held: NDArray[np.bool_], damping: Floats) -> tuple[Floats, Floats]:
    """Return the damped step (S, k) and what the undamped one would gain (S,)."""
    gradient = np.where(held, 0.0, here.gradient)
    blocked = held[:, :, None] | held[:, None, :]
    hessian = np.where(blocked, 0.0, here.hessian)
    values, vectors = np.linalg.eigh(hessian)
    size = np.abs(values)
    largest = np.maximum(size.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    along = np.einsum("ski,sk->si", vectors, gradient)
    floored = np.maximum(size, _FLOOR * largest)
    step = -np.einsum("ski,si->sk", vectors, along / (floored + damping[:, None] * largest))
    return step, (along**2 / floored).sum(axis=1)


def _take(surface: Surface, rows: Rows) -> Surface:
    return Surface(surface.value[rows], surface.gradient[rows], surface.hessian[rows], surface.scale[rows])


def _put(surface: Surface, rows: Rows, new: Surface, chosen: NDArray[np.bool_]) -> None:
    surface.value[rows] = new.value[chosen]
    surface.gradient[rows] = new.gradient[chosen]
    surface.hessian[rows] = new.hessian[chosen]
    surface.scale[rows] = new.scale[chosen]
