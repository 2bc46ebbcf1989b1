"""How many attempts a cell may train at the same time, where several cells do."""

import os
from typing import Final

from finscale.core.errors import Fault
from finscale.runtime.cluster import connect
from finscale.search.config import SearchConfig, n_cores

__all__ = ["places_per_cell"]

_RAY_ADDRESS: Final = "RAY_ADDRESS"


def places_per_cell(hpo: SearchConfig, *, at_once: int) -> int:
    """Return how many attempts each of ``at_once`` cells may train at the same time.

    On a Ray cluster cells share its room evenly, unless ``hpo.n_workers`` says how many each takes; where
    none is named, one local cluster is started for all of them.

    Raises
    ------
    Fault
        When several cells would together train more attempts than this machine has cores; or as `connect`.
    """
    if hpo.executor == "ray":
        return _places_on_cluster(hpo, at_once)
    assert hpo.n_slots
    each, cores = hpo.n_slots * hpo.n_processes, n_cores()
    if at_once > 1 and at_once * each > cores:
        raise _too_many(hpo, at_once, each, cores)
    return hpo.n_slots


def _too_many(hpo: SearchConfig, at_once: int, each: int, cores: int) -> Fault:
    several = " x hpo.n_processes" if hpo.n_processes > 1 else ""
    n_workers = cores // at_once // hpo.n_processes
    fewer = [f"hpo.n_workers={n_workers}"] if n_workers else []
    remedy = " or ".join([*fewer, f"--at-once {max(1, cores // each)}"])
    rule, got = f"be at most the {cores} cores of this machine", f"{at_once} x {each} = {at_once * each}"
    return Fault(f"sweep.at_once x hpo.n_workers{several}", rule, got, f"try {remedy}")


def _places_on_cluster(hpo: SearchConfig, at_once: int) -> int:
    """Cells beside each other join one cluster: each its own would hand out the same GPUs twice."""
    is_named = bool(os.environ.get(_RAY_ADDRESS))
    if hpo.n_workers and (is_named or at_once == 1):
        return hpo.n_workers
    wanted = hpo.n_workers and hpo.n_workers * at_once
    n_places = _connected(hpo.model_copy(update={"n_workers": wanted}), leave=is_named)
    return hpo.n_workers or max(1, n_places // at_once)


def _connected(hpo: SearchConfig, *, leave: bool) -> int:
    """Count the places."""
    n_places = connect(hpo)
    import ray

    if leave:
        ray.shutdown()
    else:
        os.environ[_RAY_ADDRESS] = ray.get_runtime_context().gcs_address
    return n_places
