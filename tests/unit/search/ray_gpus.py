"""Attempts of two processes on a cluster of two nodes with GPUs that do not exist: DIRECTORY N_ATTEMPTS."""

import sys
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from test_executors import a_job, run

from finscale.runtime.ray_executor import RayExecutor, n_places

if __name__ == "__main__":
    head = {"num_cpus": 4, "num_gpus": 3, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=4, num_gpus=1)
    ray.init(address=cluster.address)
    print(n_places(n_gpus=1, n_processes=2))
    jobs = [
        a_job(Path(sys.argv[1]), number=number, function="toy_trials:ranked_trial", seconds_per_epoch=1.5)
        for number in range(int(sys.argv[2]))
    ]
    asked = {"n_processes": 2, "n_gpus": 1, "on_report": lambda number, values: None}
    with RayExecutor(n_slots=len(jobs), **asked) as executor:
        print(*(finished.outcome.outcome for finished in run(executor, *jobs).values()))
    ray.shutdown()
    cluster.shutdown()
