"""The batch script for SLURM: run for real on two pretended nodes, its branches with a pretended Ray."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

JOB = Path(__file__).resolve().parents[2] / "deploy/slurm/search.sbatch"
PRETENDED = Path(__file__).parent / "pretended_slurm"
# as in a shell in which the project's environment is active
ACTIVE = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
OWN_NAMESPACES = (
    *("unshare", "--user", "--map-root-user", "--mount", "--net", "--pid"),
    *("--fork", "--kill-child", "--mount-proc"),
)
ALLOCATION = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_JOB_NODELIST": "node1",
    "SLURM_CPUS_PER_TASK": "1",
}
SRUN = 'while [[ $1 == --* ]]; do shift; done\nexec "$@"'
SCONTROL = '[[ $1 == show ]] && echo node1 || echo "$2" > requeued'
# with several nodes it may lose the code of what it ran
RAY = 'while [[ $1 != -- ]]; do shift; done\nshift\n"$@"\nexit 1'
DRIVER = """
trap 'touch saving; sleep 0.3; echo saved; exit 143' TERM
touch begun
for ((i = 0; i < 6000; i++)); do
    [[ -e finish ]] && exit "$(<finish)"
    sleep 0.01
done
exit 99
"""


def test_the_scripts_are_free_of_what_shellcheck_finds() -> None:
    scripts = [JOB, *PRETENDED.iterdir()]
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts commands on the PATH of a node, in whose folder a job then runs."""
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{ACTIVE}")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in ALLOCATION.items():
        monkeypatch.setenv(name, value)

    def write(**commands: str) -> None:
        for name, text in {"srun": SRUN, "scontrol": SCONTROL, "ray": RAY, **commands}.items():
            command = tmp_path / "bin" / name
            command.write_text(f"#!/bin/bash\n{text}\n")
            command.chmod(0o755)

    return write


def submit(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["bash", str(JOB), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def until(condition: Callable[[], Any], *, job: "subprocess.Popen[str]", seconds: float) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert job.poll() is None, "the job ended too early"
        assert time.monotonic() < give_up_at, "the job never came so far"
        time.sleep(0.02)


def test_the_driver_gets_the_arguments_and_it_alone_the_address(pretend: Callable[..., None]) -> None:
    told = '; echo "${RAY_ADDRESS-none} $RAY_AUTH_MODE ${#RAY_AUTH_TOKEN} $RAY_USAGE_STATS_ENABLED"'
    pretend(ray=f"echo ray $*{told}\n{RAY}", kedro=f"echo kedro $# $*{told}")
    job = submit("--budgets", "20M", "--params", "hpo.n_gpus=1,sweep.horizons=1 5")
    said = (job.communicate(timeout=120)[0]).splitlines()
    assert job.returncode == 0
    assert said[0].startswith("ray symmetric-run --address node1:6379 --min-nodes 1 --num-cpus=1 ")
    assert said[1] == "none token 64 0"
    assert said[2] == "kedro 7 sweep --env cluster --budgets 20M --params hpo.n_gpus=1,sweep.horizons=1 5"
    assert said[3] == "node1:6379 token 64 0"


def test_every_job_has_a_token_of_its_own_that_no_command_line_shows(pretend: Callable[..., None]) -> None:
    pretend(ray=f'echo "$*" > commands\necho "$RAY_AUTH_TOKEN" >> tokens\n{RAY}', kedro="exit 0")
    for _ in range(2):
        assert submit().wait(120) == 0
    tokens = Path("tokens").read_text().split()
    assert len(set(tokens)) == 2
    assert tokens[-1] not in Path("commands").read_text()


def test_a_cluster_that_never_came_up_is_an_error_though_ray_says_nothing(
    pretend: Callable[..., None],
) -> None:
    pretend(ray="exit 0")
    job = submit()
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 1
    assert "did Ray come up on all 1 nodes?" in out


@pytest.mark.parametrize(
    ("signals", "finish", "code", "requeued"),
    [
        ([signal.SIGUSR1], None, 143, True),
        ([signal.SIGTERM], None, 143, False),
        ([signal.SIGUSR1, signal.SIGTERM], None, 143, True),
        ([], "0", 0, False),
        ([], "1", 1, False),
    ],
)
def test_a_job_is_requeued_when_its_time_ends_before_its_work(
    pretend: Callable[..., None], signals: list[int], finish: str | None, code: int, requeued: bool
) -> None:
    pretend(kedro=DRIVER)
    job = submit()
    until(Path("begun").exists, job=job, seconds=120)
    for number in signals:
        job.send_signal(number)
        until(Path("saving").exists, job=job, seconds=120)
    if finish is not None:
        Path("finish").write_text(finish)
    out, _ = job.communicate(timeout=120)
    assert job.returncode == code
    assert out.count("saved") == (1 if signals else 0)
    assert Path("requeued").exists() is requeued


@pytest.mark.parametrize("code", [0, 1])
def test_work_that_ends_by_itself_after_the_warning_is_not_begun_again(
    pretend: Callable[..., None], code: int
) -> None:
    pretend(kedro=DRIVER.replace("exit 143", f"exit {code}"))
    job = submit()
    until(Path("begun").exists, job=job, seconds=120)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(120) == code
    assert not Path("requeued").exists()


def need_namespaces() -> None:
    if sys.platform != "linux" or not shutil.which("unshare"):
        pytest.skip("two pretended nodes need Linux, and unshare")
    veth = ("ip", "link", "add", "node1", "type", "veth", "peer", "name", "node2")
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    if subprocess.run([*OWN_NAMESPACES, *veth], capture_output=True, env=environment).returncode:
        pytest.skip("two pretended nodes need namespaces, which this machine does not allow, and ip")


@contextmanager
def allocation(project: Any, steps: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Two nodes, on the first of which the job runs; with the context they end."""
    environment = {**project.environment, "PATH": ACTIVE, "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
    environment.pop("RAY_ADDRESS", None)
    with (steps / "out").open("w") as out:
        job = subprocess.Popen(
            [*OWN_NAMESPACES, str(PRETENDED / "cluster"), str(steps), str(JOB), *arguments],
            cwd=project.folder,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield job
        finally:
            job.kill()
            job.wait()


def batch_script(job: "subprocess.Popen[str]") -> psutil.Process | None:
    """The job as the first node runs it, by its number on this machine."""
    below = psutil.Process(job.pid).children(recursive=True)
    return next((found for found in below if found.cmdline()[:2] == ["bash", str(JOB)]), None)


@pytest.mark.slow  # a Ray cluster starts and ends twice
def test_on_two_nodes_a_search_stops_before_the_time_limit_and_the_requeued_job_ends_it(
    project: Any, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra [cluster] is not installed")
    need_namespaces()
    search = ("--env", "test", "--pipelines", "hpo", "--budgets", "5K")
    search = (*search, "--params", "hpo.executor=ray,hpo.n_workers=2,hpo.n_trials=6,hpo.n_random=0")
    trials = project.folder / "data/test/06_models/hpo/sp500_test/5K_h1/trials"
    steps = tmp_path / "steps"
    steps.mkdir()
    with allocation(project, steps, *search) as job:
        until(lambda: list(trials.glob("*/.lock")), job=job, seconds=240)
        script = batch_script(job)
        assert script is not None
        script.send_signal(signal.SIGUSR1)
        assert job.wait(240) == 143, (steps / "out").read_text()
    said = (steps / "out").read_text()
    assert "On worker node. Connecting to Ray cluster at node1:6379" in said
    assert "Continue with the same command: kedro sweep --env cluster --env test" in said
    assert (steps / "requeued").read_text().strip() == "7"
    assert len(list(trials.glob("*/outcome.json"))) < 6

    with allocation(project, steps, *search) as job:
        assert job.wait(240) == 0, (steps / "out").read_text()
    table = pd.read_parquet(trials.parent / "trials.parquet")
    assert table["number"].tolist() == list(range(6))
    assert (table["outcome"] == "complete").all()
