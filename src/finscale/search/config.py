"""How one cell is searched. What is searched (the space) decides the study; the rest may change on resume."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from finscale.archgrid.batching import BatchProvider
from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.search.space import SearchSpace

__all__ = ["SearchConfig"]


class SearchConfig(Record):
    """One search of one cell.

    Parameters
    ----------
    n_trials : int
        Exact total of finished (complete or diverged) trials of the study, over all its runs.
    n_random : int
        Non-adaptive trials, drawn uniformly over grid rows and the space; the analysis needs 10 of them.
    sampler : {"gp", "random"}
        What proposes once corners and random stratum are done: a Gaussian process over numeric coordinates,
        or further uniform draws.
    executor : {"process", "inline"}
        ``process`` trains each attempt in a process of its own; ``inline`` in the driver's.
    n_workers : int or None
        Attempts that train at the same time; None is 2 for ``process`` and 1 for ``inline``.
    batch_provider : {"measured", "table"}
        Who advises a trial's micro-batch; after an OOM it is halved, whoever advised it.
    max_failures : int
        Failed or out-of-memory trials that one run tolerates before it stops asking.
    restart : bool
        Archive the study under its date and begin again.
    space : SearchSpace
        The training dimensions.
    """

    n_trials: int = Field(default=50, ge=1)
    n_random: int = Field(default=10, ge=0)
    sampler: Literal["gp", "random"] = "gp"
    executor: Literal["process", "inline"] = "process"
    n_workers: Annotated[int, Field(ge=1)] | None = None
    batch_provider: BatchProvider = "measured"
    max_failures: int = Field(default=10, ge=0)
    restart: bool = False
    space: SearchSpace = SearchSpace()

    @model_validator(mode="after")
    def _inline_runs_one_at_a_time(self) -> Self:
        if self.executor == "inline" and self.n_workers not in (None, 1):
            remedy = "leave n_workers out, or set hpo.executor=process"
            raise Fault("hpo.n_workers", "be 1 where hpo.executor is inline", self.n_workers, remedy)
        return self

    @property
    def n_slots(self) -> int:
        """Attempts that train at the same time."""
        return self.n_workers or (1 if self.executor == "inline" else 2)
