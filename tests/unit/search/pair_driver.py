"""A driver of one long attempt of two processes, to be killed: DIRECTORY EXECUTOR."""

import sys
from pathlib import Path

from search_toys import never
from test_executors import a_job

from finscale.runtime.cluster import make_executor
from finscale.search.config import SearchConfig

if __name__ == "__main__":
    config = SearchConfig(executor=sys.argv[2], n_workers=1, n_processes=2)
    asked = {"on_report": lambda number, values: None, "should_stop": never, "should_pause": never}
    with make_executor(config, **asked) as executor:
        executor.submit(a_job(Path(sys.argv[1]), epochs=2000, seconds_per_epoch=0.05))
        while True:
            executor.poll(0.5)
