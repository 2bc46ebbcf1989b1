"""A driver of toy trials on the cluster at RAY_ADDRESS, its study in a database: DIRECTORY N_TRIALS."""

import logging
import sys
from pathlib import Path

from search_toys import drive, never

from finscale.runtime.cluster import make_executor
from finscale.search.config import SearchConfig
from finscale.search.executors import Executor, OnReport


def on_cluster(n_trials: int, *, n_workers: int = 3) -> SearchConfig:
    return SearchConfig(n_trials=n_trials, sampler="sample", executor="ray", n_workers=n_workers)


def executor_of(config: SearchConfig, on_report: OnReport) -> Executor:
    return make_executor(config, on_report=on_report, should_stop=never, should_pause=never)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    asked = on_cluster(int(sys.argv[2]))
    drive(
        Path(sys.argv[1]),
        config=asked,
        epochs=10,
        seconds_per_epoch=0.3,
        executor=lambda on_report: executor_of(asked, on_report),
    )
