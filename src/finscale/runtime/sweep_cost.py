"""What the cells of a sweep take together: time on the clock, devices, and what the figures leave out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finscale.search.config import SearchConfig
from finscale.search.forecast import Forecast, Span
from finscale.training.config import ExecutionConfig, resolve_device

__all__ = ["SweepCost"]

_NOTHING = Span(least=0, expected=0, most=0)


@dataclass(frozen=True)
class SweepCost:
    """What the cells of a sweep take together.

    Parameters
    ----------
    forecasts : sequence of Forecast
        Of every cell.
    at_once, n_places : int
        Cells at the same time, and attempts of each.
    hpo, execution
        How attempts run.
    """

    forecasts: Sequence[Forecast]
    at_once: int
    n_places: int
    hpo: SearchConfig
    execution: ExecutionConfig

    def wall(self, forecast: Forecast) -> Span:
        """Return how long one cell takes: trials keep all places busy, trainings go in rounds."""
        return self.search(forecast) + self.final(forecast)

    def search(self, forecast: Forecast) -> Span:
        """Return the part of it that is search."""
        return forecast.search * (1 / max(1, min(self.n_places, forecast.n_left)))

    def final(self, forecast: Forecast) -> Span:
        """Return the part of it that is final training."""
        n = forecast.n_trainings
        return forecast.final * (math.ceil(n / self.n_places) / n if n else 1)

    @property
    def total(self) -> Span:
        """How long the sweep takes: no less than its longest cell."""
        walls = [self.wall(forecast) for forecast in self.forecasts]
        shared = sum(walls, _NOTHING) * (1 / self.at_once)
        return Span(
            least=max(shared.least, *(wall.least for wall in walls)),
            expected=max(shared.expected, *(wall.expected for wall in walls)),
            most=max(shared.most, *(wall.most for wall in walls)),
        )

    @property
    def device(self) -> str:
        """Kind of device that attempts train on."""
        return resolve_device(self.execution).type

    @property
    def n_attempts(self) -> int:
        """Attempts that train at the same time."""
        return self.at_once * self.n_places

    @property
    def n_gpus(self) -> float:
        """GPUs that attempts hold together; those of one machine share one, unless each has several."""
        if self.device != "cuda":
            return 0
        if self.hpo.executor == "ray":
            return self.n_attempts * self.hpo.n_processes * self.hpo.n_gpus
        return self.n_attempts * self.hpo.n_processes if self.hpo.n_processes > 1 else 1

    @property
    def n_sharing(self) -> int:
        """Attempts that share one device and its memory; of a cluster of CPUs, as if it were one node."""
        if self.device == "cuda" and self.hpo.executor == "ray" and self.hpo.n_gpus:
            return round(1 / self.hpo.n_gpus)
        has_its_own = self.device == "cuda" and self.hpo.n_processes > 1
        return 1 if has_its_own else self.n_attempts

    def notes(self) -> Iterator[str]:
        """Yield what the figures rest on, and what they cannot know."""
        yield (
            "Range of time: from all trainings as the cheapest candidate to all as the dearest one through "
            "the most epochs of the space, an upper bound. Expected: the candidates' mean, without early "
            "stopping and pruning; where trials have finished, after their mean number of epochs."
        )
        yield "Left out: starting processes, asking the sampler, scoring, exports, waiting for devices."
        if self.hpo.executor == "ray":
            yield "The nodes of the cluster are taken to be as fast as this machine, their devices like its."
        elif self.n_attempts > 1:
            shared = "GPU" if self.device == "cuda" else "memory and caches"
            yield f"Attempts at the same time are taken not to slow each other, though they share {shared}."
        if self.hpo.n_processes > 1:
            yield "An attempt of several processes is timed as one on one device: it should be faster."
