"""Who trains together, where they meet, and what several ends make one."""

import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from finscale.core.errors import FinscaleError
from finscale.search import groups
from finscale.search.attempts import Job, run_attempt
from finscale.search.config import SearchConfig
from finscale.search.groups import Ends, Member, join, leads, on_nodes, on_this_machine
from finscale.search.outcomes import TrialOutcome, of_dead_process
from finscale.search.planner import require_processes
from finscale.training.config import ExecutionConfig

COMPLETE = TrialOutcome(outcome="complete", value=0.5, metrics={"n_steps": 3})
OTHER = TrialOutcome(outcome="complete", value=0.0)
DIVERGED, STOPPED = TrialOutcome(outcome="diverged"), TrialOutcome(outcome="stopped")
OOM, LOST = of_dead_process(-9), TrialOutcome(outcome="lost", reason="NodeDiedError: gone")
CRASHED = of_dead_process(-11)
BROKEN = TrialOutcome(outcome="failed", reason="RuntimeError: the model broke")
OWN = TrialOutcome(outcome="failed", reason="Fault: data must be there")
ECHO = TrialOutcome(
    outcome="failed",
    reason="RuntimeError: [third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer",
)
TAKEN = TrialOutcome(outcome="failed", reason="DistNetworkError: The server socket has failed to listen")


@pytest.mark.parametrize(
    ("ends", "joined"),
    [
        ([COMPLETE, OTHER], COMPLETE),
        ([COMPLETE, None], COMPLETE),
        ([COMPLETE, OOM], COMPLETE),
        ([ECHO, OOM], OOM),
        ([OOM, ECHO], OOM),
        ([None, OOM], OOM),
        ([LOST, OOM], OOM),
        ([BROKEN, OOM], OOM),
        ([ECHO, LOST], LOST),
        ([LOST, ECHO], LOST),
        ([BROKEN, LOST], LOST),
        ([STOPPED, LOST], LOST),
        ([ECHO, CRASHED], CRASHED),
        ([ECHO, OWN], OWN),
        ([BROKEN, ECHO], BROKEN),
        ([BROKEN, OWN], BROKEN),
        ([BROKEN, None], BROKEN),
        ([None, CRASHED], CRASHED),
        ([STOPPED, STOPPED], STOPPED),
        ([STOPPED, None], STOPPED),
        ([ECHO, STOPPED], STOPPED),
        ([DIVERGED, OTHER], DIVERGED),
        ([DIVERGED, DIVERGED], DIVERGED),
        ([ECHO, ECHO, OOM, None], OOM),
        ([ECHO], ECHO),
    ],
)
def test_the_ends_of_all_processes_make_one(ends: list[TrialOutcome | None], joined: TrialOutcome) -> None:
    assert join(ends) == joined


@pytest.mark.parametrize("ends", [[ECHO, ECHO], [TAKEN, None], [None, ECHO], [ECHO, OTHER], [None, OTHER]])
def test_processes_that_only_lost_each_other_are_lost_and_so_begin_again(
    ends: list[TrialOutcome | None],
) -> None:
    found = join(ends)
    assert found.outcome == "lost"
    assert found.reason.startswith("its processes lost each other: ")


def test_a_bad_end_and_that_of_the_leader_put_the_others_on_a_short_leash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(groups, "_GRACE_S", 0.0)
    for rank, outcome, are_in in [
        (1, OTHER, False),
        (1, STOPPED, False),
        (1, OOM, True),
        (1, LOST, True),
        (1, BROKEN, True),
        (0, COMPLETE, True),
        (0, STOPPED, True),
    ]:
        ends = Ends(2)
        assert not ends.are_in
        ends.note(rank, outcome)
        assert (ends.are_in, ends.missing) == (are_in, (1 - rank,))


def test_a_short_leash_is_not_lengthened_by_further_bad_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_GRACE_S", 0.0)
    ends = Ends(3)
    ends.note(1, OOM)
    monkeypatch.setattr(groups, "_GRACE_S", 60.0)
    ends.note(0, ECHO)
    assert ends.are_in


def test_a_process_finds_what_torchrun_would_have_told_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    first, second = on_this_machine(2, slot=3)
    assert second.environment == {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "7",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(first.port),
        "GLOO_SOCKET_IFNAME": "lo" if "lo" in psutil.net_if_addrs() else "lo0",
    }
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    assert first.environment["GLOO_SOCKET_IFNAME"] == "ib0"


def test_a_process_takes_its_own_device_or_counts_through_those_of_its_node() -> None:
    nodes, place = ["a", "a", "b", "a", "b"], {"address": "10.0.0.1", "port": 1}
    shown_all = on_nodes(nodes, sees_own_device_only=False, **place)
    assert [member.local_rank for member in shown_all] == [0, 1, 0, 2, 1]
    assert [member.rank for member in shown_all] == [0, 1, 2, 3, 4]
    shown_one = on_nodes(nodes, sees_own_device_only=True, **place)
    assert {member.local_rank for member in shown_one} == {0}
    slots = [member.local_rank for slot in range(3) for member in on_this_machine(2, slot=slot)]
    assert slots == list(range(6))


def test_a_process_leads_where_it_is_first_or_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert leads()
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert leads() == (rank == "0")


# -- what each process of an attempt writes ------------------------------------------------------------------


def told_trial(payload: Mapping[str, Any], directory: Path, **_channel: Any) -> Mapping[str, Any]:
    _channel["report"]({"epoch": 1})
    if payload.get("breaks"):
        raise RuntimeError("the toy broke")
    return payload


def a_member(rank: int) -> Member:
    return Member(rank, 2, rank, "127.0.0.1", 1)


def attempt(directory: Path, rank: int | None, **payload: Any) -> tuple[TrialOutcome, list[Any]]:
    member, reports = None if rank is None else a_member(rank), list[Any]()
    job = Job(0, "id", "test_groups:told_trial", payload, directory, member)
    return run_attempt(job, should_stop=lambda: False, report=reports.append), reports


@pytest.mark.parametrize(
    ("rank", "outcome", "is_saved"),
    [
        (None, "complete", True),
        (None, "diverged", True),
        (0, "complete", True),
        (0, "diverged", False),
        (1, "complete", False),
    ],
)
def test_of_several_processes_the_leader_alone_saves_and_nothing_but_a_whole_training(
    tmp_path: Path, rank: int | None, outcome: str, is_saved: bool
) -> None:
    value = 0.5 if outcome == "complete" else None
    found, reports = attempt(tmp_path, rank, outcome=outcome, value=value)
    assert found.outcome == outcome
    assert (tmp_path / "outcome.json").exists() == is_saved
    assert (tmp_path / ".lock").exists() == (rank != 1) == bool(reports)


def test_a_follower_waits_for_no_lock_and_believes_what_its_leader_saved(tmp_path: Path) -> None:
    attempt(tmp_path, 0, outcome="complete", value=0.5)
    with (tmp_path / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found, _ = attempt(tmp_path, 1, breaks=True)
    assert (found.outcome, found.value) == ("complete", 0.5)


def test_every_process_leaves_the_traceback_of_its_own_failure(tmp_path: Path) -> None:
    for rank in (0, 1):
        attempt(tmp_path, rank, breaks=True)
    assert {path.name for path in tmp_path.glob("failure*")} == {"failure.txt", "failure_1.txt"}


# -- what is refused before the first trial ------------------------------------------------------------------

TWO = SearchConfig(n_processes=2, n_workers=1)
ON_RAY = SearchConfig(n_processes=2, executor="ray")
LAYER, BATCH = {"norm": "layer_norm"}, {"norm": "batch_norm"}


def on(device: str = "cpu", strategy: str = "ddp") -> ExecutionConfig:
    return ExecutionConfig.read({"device": device, "strategy": strategy}, subject="execution")


@pytest.mark.parametrize(
    ("config", "strategy", "models", "fault"),
    [
        (
            TWO,
            "one",
            [LAYER],
            r"execution\.strategy must be ddp or fsdp where hpo\.n_processes is 2, got 'one'",
        ),
        (SearchConfig(), "ddp", [LAYER], r"execution\.strategy must be one where hpo\.n_processes is 1"),
        (TWO, "fsdp", [LAYER, BATCH], r"the model's norm must be layer_norm or rms_norm .* got 'batch_norm'"),
    ],
)
def test_what_several_processes_cannot_train_is_refused_with_the_remedy(
    config: SearchConfig, strategy: str, models: list[dict[str, str]], fault: str
) -> None:
    with pytest.raises(FinscaleError, match=fault) as caught:
        require_processes(config, on(strategy=strategy), models=models)
    assert "set " in str(caught.value)


@pytest.mark.parametrize("config", [TWO, ON_RAY, TWO.model_copy(update={"n_workers": None})])
def test_what_several_processes_can_train_on_a_cpu_is_let_pass(config: SearchConfig) -> None:
    require_processes(config, on(), models=[LAYER, {}])
    require_processes(SearchConfig(), on(strategy="one"), models=[BATCH])


@pytest.mark.parametrize(
    ("config", "n_gpus", "fault"),
    [
        (TWO, 2, None),
        (TWO, 1, r"n_workers times hpo\.n_processes must be 1 at most.*got 2; set hpo\.n_processes=1"),
        (TWO.model_copy(update={"n_workers": None}), 2, r"must be 2 at most.*got 4; set hpo\.n_workers=1"),
        (ON_RAY, 8, r"hpo\.n_gpus must be 1 where several processes train on cuda, got 0"),
        (ON_RAY.model_copy(update={"n_gpus": 1.0}), 0, None),
    ],
)
def test_every_process_has_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, config: SearchConfig, n_gpus: int, fault: str | None
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    if fault is None:
        require_processes(config, on("cuda"), models=[])
        return
    with pytest.raises(FinscaleError, match=fault):
        require_processes(config, on("cuda"), models=[])


def test_apples_gpu_has_no_backend_for_several(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(FinscaleError, match=r"hpo\.n_processes must be 1 on mps, got 2"):
        require_processes(TWO, on("mps"), models=[])


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"executor": "inline"}, r"hpo\.n_processes must be 1 where hpo\.executor is inline, got 2"),
        (
            {"executor": "ray", "n_gpus": 0.5},
            r"hpo\.n_gpus must be 0 or 1 where hpo\.n_processes is 2.*got 0\.5",
        ),
    ],
)
def test_settings_that_cannot_go_together_are_refused(values: dict[str, Any], fault: str) -> None:
    with pytest.raises(FinscaleError, match=fault):
        SearchConfig.read({"n_processes": 2, **values}, subject="hpo")
