"""How one cell is searched. What is searched (the space) decides the study; the rest may change on resume."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from finscale.archgrid.batching import BatchProvider
from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.search.space import SearchSpace, read_former_space

__all__ = ["Sampler", "SearchConfig", "n_cores"]

Sampler = Literal["gp", "tpe", "qmc", "sample", "grid"]

_NOT_PRUNED = {"gp": "it cannot read them", "sample": "its random draws never are"}
"""Samplers beside which a pruner has no place, and why."""

_GP_TRIALS = 500
"""Beyond as many trials an ask of the Gaussian process costs more than it gives."""


class SearchConfig(Record):
    """One search of one cell.

    Parameters
    ----------
    n_trials : int
        Exact total of finished (complete, pruned or diverged) trials of the study, over all its runs.
    clip : bool
        Whether ``n_trials`` above the number of configurations is lowered to it, and an exhaustive ``grid``
        may be cut short; otherwise both are errors.
    n_random : int
        Non-adaptive trials, drawn uniformly over grid rows and the space; the analysis needs 10 of them.
    sampler : {"gp", "tpe", "qmc", "sample", "grid"} or None
        What proposes once corners and random stratum are done: a Gaussian process over numeric coordinates,
        the tree-structured Parzen estimator, or a quasi-random sequence. ``sample`` draws at random without
        replacement from the first trial on; ``grid`` runs every combination once. None is ``gp``, and ``tpe``
        where trials are pruned, where training dimensions wait for others, and beyond 500 trials.
    pruner : {"none", "median", "asha", "hyperband"}
        Which trials end early; corners and supplemental trials never do.
    pruning_min_epochs : int
        Epochs before which no trial is pruned.
    pruning_reduction : int
        Of ``asha`` and ``hyperband``: one trial in as many goes on from rung to rung.
    oom_policy : {"accumulate", "halve_batch"}
        What halving the micro-batch after an OOM does: accumulate twice as many of them (the effective batch
        stays), or halve the effective batch.
    execution : {"asynchronous", "deterministic_batches"}
        With several workers: ask whenever one is free, or ask as many as there are and tell them in the order
        of their numbers, so that the same search proposes the same trials.
    executor : {"process", "inline", "ray"}
        ``process`` trains each attempt in a process of its own; ``inline`` in the driver's; ``ray`` in a
        process on some node of a Ray cluster.
    n_workers : int or None
        Attempts that train at the same time; None is 2 for ``process``, 1 for ``inline``, and for ``ray`` as
        many as the cluster has room for when the search begins.
    n_processes : int
        That train one attempt together, one device each, under ``execution.strategy`` ddp or fsdp; those of
        ``ray`` may lie on several nodes.
    n_gpus : float
        Of ``ray``: GPUs that each process of an attempt claims beside its one CPU; several attempts share one
        by claiming a fraction each.
    batch_provider : {"measured", "table"}
        Who advises a trial's micro-batch; after an OOM it is halved, whoever advised it.
    max_failures : int
        Failed or out-of-memory trials that one run tolerates before it stops asking.
    top_k : int
        Of how many of the best trials the weights are kept.
    supplemental : str or None
        File of architectures to run beside the search, on top of ``n_trials``.
    recover : str or None
        Log or JSON of lost trials to rebuild.
    transfer : bool
        Propose what finished smaller cells predict.
    dry_run, verify : bool
        Say what would be searched, or check what was; train nothing.
    restart : bool
        Archive the study under its date and begin again.
    space : SearchSpace
        The dimensions; ``search_space`` is its former name.
    """

    n_trials: int = Field(default=50, ge=1)
    clip: bool = False
    n_random: int = Field(default=10, ge=0)
    sampler: Sampler | None = None
    pruner: Literal["none", "median", "asha", "hyperband"] = "none"
    pruning_min_epochs: int = Field(default=10, ge=1)
    pruning_reduction: int = Field(default=3, ge=2)
    oom_policy: Literal["accumulate", "halve_batch"] = "accumulate"
    execution: Literal["asynchronous", "deterministic_batches"] = "asynchronous"
    executor: Literal["process", "inline", "ray"] = "process"
    n_workers: Annotated[int, Field(ge=1)] | None = None
    n_processes: int = Field(default=1, ge=1)
    n_gpus: float = Field(default=0, ge=0, le=1)
    batch_provider: BatchProvider = "measured"
    max_failures: int = Field(default=10, ge=0)
    top_k: int = Field(default=0, ge=0)
    supplemental: str | None = None
    recover: str | None = None
    transfer: bool = False
    dry_run: bool = False
    verify: bool = False
    restart: bool = False
    space: SearchSpace = SearchSpace()

    @model_validator(mode="before")
    @classmethod
    def _read_former_name(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "search_space" not in values:
            return values
        if "space" in values:
            rule = "be left out beside space, its present name"
            raise Fault("hpo.search_space", rule, values["search_space"], "remove one of them")
        others = {name: value for name, value in values.items() if name != "search_space"}
        return {**others, "space": read_former_space(values["search_space"])}

    @model_validator(mode="after")
    def _inline_runs_one_at_a_time(self) -> Self:
        if self.executor == "inline" and self.n_workers not in (None, 1):
            remedy = "leave n_workers out, or set hpo.executor=process"
            raise Fault("hpo.n_workers", "be 1 where hpo.executor is inline", self.n_workers, remedy)
        return self

    @model_validator(mode="after")
    def _only_ray_claims_gpus(self) -> Self:
        if self.n_gpus and self.executor != "ray":
            remedy = "leave n_gpus out, or set hpo.executor=ray"
            raise Fault("hpo.n_gpus", "be 0 where hpo.executor is not ray", self.n_gpus, remedy)
        return self

    @model_validator(mode="after")
    def _several_processes_are_apart(self) -> Self:
        if self.n_processes > 1 and self.executor == "inline":
            remedy = "set hpo.executor=process, or leave n_processes out"
            raise Fault("hpo.n_processes", "be 1 where hpo.executor is inline", self.n_processes, remedy)
        if self.n_processes > 1 and 0 < self.n_gpus < 1:
            rule = f"be 0 or 1 where hpo.n_processes is {self.n_processes}: each needs a GPU of its own"
            raise Fault("hpo.n_gpus", rule, self.n_gpus, "set hpo.n_gpus=1")
        return self

    @model_validator(mode="after")
    def _pruning_needs_a_sampler_that_reads_it(self) -> Self:
        if self.pruner != "none" and self.sampler in _NOT_PRUNED:
            rule = f"not be {self.sampler} where trials are pruned: {_NOT_PRUNED[self.sampler]}"
            raise Fault("hpo.sampler", rule, self.sampler, "leave hpo.sampler out, or set hpo.pruner=none")
        return self

    @property
    def n_slots(self) -> int | None:
        """Attempts that train at the same time; None where the cluster decides."""
        return self.n_workers or {"inline": 1, "process": 2, "ray": None}[self.executor]

    @property
    def n_sharing(self) -> int:
        """Attempts that share a device and its memory; on nodes without GPUs, as many as run here."""
        if self.executor != "ray":
            return self.n_slots or 1
        cores = n_cores()
        return round(1 / self.n_gpus) if self.n_gpus else min(self.n_workers or cores, cores)

    def chosen_sampler(self, *, has_conditions: bool) -> Sampler:
        """Return what proposes, for a space with or without training dimensions that wait for others."""
        if self.sampler is not None:
            return self.sampler
        return "tpe" if self.pruner != "none" or has_conditions or self.n_trials > _GP_TRIALS else "gp"


def n_cores() -> int:
    """Return how many cores this process may use: a batch system gives it some of a node's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
