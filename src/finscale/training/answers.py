"""What a trained model says of windows whose future is not known, once, or with dropout left on.

n origins; answers in float64, of the shape of their kind (`finscale.training.scoring`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor, nn

from finscale.core.errors import Fault
from finscale.core.seeding import derive
from finscale.models.contract import evaluating
from finscale.training.config import ExecutionConfig
from finscale.training.evaluate import as_double, at_a_time, placed_chunks
from finscale.training.execution import autocast, seed_device
from finscale.training.gradients import WindowSource
from finscale.training.losses import said_of
from finscale.training.scoring import scoring_of
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import parse_task

__all__ = ["answers", "dropout_answers"]

Array = NDArray[np.float64]


def answers(
    model: nn.Module,
    windows: WindowSource,
    origins: Int[Tensor, " n"],
    *,
    spec: WindowSpec,
    execution: ExecutionConfig,
) -> Array:
    """Return what the model says at ``origins``, bit for bit what `finscale.training.evaluate` writes down.

    Raises
    ------
    Fault
        When that is not a finite number everywhere.
    """
    with evaluating(model), autocast(execution, origins.device):
        chunks = placed_chunks(origins, at_most=at_a_time(model, spec))
        parts = [_said(model, windows, chunk, spec)[places] for chunk, places in chunks]
    return _finite(np.concatenate(parts))


def dropout_answers(
    model: nn.Module,
    windows: WindowSource,
    origins: Int[Tensor, " n"],
    *,
    spec: WindowSpec,
    execution: ExecutionConfig,
    n_samples: int,
    seed: int,
) -> tuple[Array, Array]:
    """Return mean and standard deviation of the answers of ``n_samples`` passes with dropout on.

    Gal and Ghahramani (2016): each pass is a draw from an approximate posterior of the weights. Equal seeds
    give equal numbers on equal origins. The random state of the device moves on.

    Raises
    ------
    Fault
        When the model has no dropout to leave on, or there are fewer than two passes.
    """
    if n_samples < 2:
        raise Fault("n_samples", "be at least 2 for a spread", n_samples, "try n_samples=50")
    parts = []
    with evaluating(model), _dropping(model), autocast(execution, origins.device):
        chunks = placed_chunks(origins, at_most=at_a_time(model, spec))
        for number, (chunk, places) in enumerate(chunks):
            samples = []
            for sample in range(n_samples):
                seed_device(origins.device, derive(seed, "dropout", number, sample))
                samples.append(_said(model, windows, chunk, spec)[places])
            parts.append((np.mean(samples, axis=0), np.std(samples, axis=0)))
    mean, spread = (np.concatenate(each) for each in zip(*parts, strict=True))
    return _finite(mean), _finite(spread)


def _said(model: nn.Module, windows: WindowSource, origins: Tensor, spec: WindowSpec) -> Array:
    raw = said_of(model(windows.gather(origins)), parse_task(spec.task).kind)
    return scoring_of(spec).answer(as_double(raw))


def _finite(answer: Array) -> Array:
    if not np.isfinite(answer).all():
        raise Fault("the model's answers", "be finite numbers", "nan or inf", "train it again")
    return answer


@contextmanager
def _dropping(model: nn.Module) -> Iterator[None]:
    """Leave dropout on, and it alone: no statistic of a batch is taken."""
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p > 0]
    if not layers:
        remedy = "leave it out, or train with dropout"
        raise Fault("model.dropout", "be above 0 to sample with dropout", 0.0, remedy)
    for layer in layers:
        layer.train()
    yield
