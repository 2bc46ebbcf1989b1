"""Several processes train as one does: the same numbers, decided alike; none waits for a dead one."""

import functools
import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from finscale.cli import cli
from finscale.core.errors import Fault
from finscale.training.__main__ import main
from finscale.training.checkpoint import checkpoint_tensors, restore
from finscale.training.config import ExecutionConfig
from finscale.training.distributed import meet, whole
from finscale.training.evaluate import evaluating
from finscale.training.events import Event
from finscale.training.loop import never, train
from finscale.training.run_spec import RunSpec, write_run_spec
from finscale.training.stepper import Stepper
from finscale.windows.data import WindowData, save_windows

CPU = torch.device("cpu")
Windows = Callable[..., WindowData]
Specs = Callable[..., RunSpec]
InProcesses = Callable[..., list[Any]]


@pytest.fixture
def in_processes(tmp_path: Path) -> InProcesses:
    """Call ``work()`` in processes that are started as torchrun starts them; what each returned, by rank.

    They are forked, so that nothing is imported again. One that has not ended in time fails the test.
    """

    def run(n: int, work: Callable[[], Any], *, expected_exit: tuple[int, ...] | None = None) -> list[Any]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("fork")
        files = [tmp_path / f"answer_{rank}.json" for rank in range(n)]
        children = [
            context.Process(target=_child, args=(work, file, rank, n, port))
            for rank, file in enumerate(files)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(timeout=40)
        late = [child for child in children if child.is_alive()]
        for child in late:
            child.kill()
        assert not late, "a process did not end"
        assert tuple(child.exitcode for child in children) == (expected_exit or (0,) * n)
        return [json.loads(file.read_text()) if file.exists() else None for file in files]

    return run


def _child(work: Callable[[], Any], file: Path, rank: int, n: int, port: int) -> None:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "MASTER_PORT": port}
    if n > 1:
        os.environ.update({name: str(number) for name, number in numbers.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    file.write_text(json.dumps(work()))


def _steps(
    spec: RunSpec, data: WindowData, folder: Path, *, strategy: str, dtype: str, n_steps: int = 25
) -> list[float]:
    """Make steps on groups of 32, 15 and 1 windows; the gradients of the first one go into a file."""
    torch.set_default_dtype(getattr(torch, dtype))
    data = replace(data, values=data.values.astype(dtype), targets=data.targets.astype(dtype))
    processes = meet(strategy, CPU)
    execution = ExecutionConfig(device="cpu", strategy=strategy)
    stepper = Stepper(spec, data, execution=execution, device=CPU, processes=processes)
    found: list[dict[str, torch.Tensor]] = []
    stepper.optimizer.register_step_pre_hook(lambda *_: found.append(_gradients(stepper, first=not found)))
    train = torch.from_numpy(data.origins["train"])
    groups = [train[:32], train[32:47], train[47:48]]
    losses = [processes.total(stepper.update(groups[i % 3])) for i in range(n_steps)]
    if processes.leads:
        save_file(found[0], folder / f"{strategy}.safetensors")
    return losses


def _gradients(stepper: Stepper, *, first: bool) -> dict[str, torch.Tensor]:
    if not first:
        return {}
    return {name: whole(w.grad).clone() for name, w in stepper.model.named_parameters()}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize(
    ("dtype", "gradient_atol", "loss_atol"), [("float64", 1e-10, 1e-8), ("float32", 1e-6, 1e-4)]
)
def test_two_processes_compute_the_gradients_and_losses_of_one(
    strategy: str,
    dtype: str,
    gradient_atol: float,
    loss_atol: float,
    tmp_path: Path,
    make_data: Windows,
    make_spec: Specs,
    in_processes: InProcesses,
) -> None:
    data = make_data()
    spec = make_spec(data, dropout=0.0, n_layers=2, micro_batch_size=5, clip_norm=0.2, warmup_steps=0)
    batch = spec.batch.model_copy(update={"activation_checkpointing": strategy == "fsdp"})
    work = functools.partial(_steps, spec.model_copy(update={"batch": batch}), data, tmp_path, dtype=dtype)
    [alone] = in_processes(1, functools.partial(work, strategy="one"))
    together = in_processes(2, functools.partial(work, strategy=strategy))
    assert together[0] == together[1]
    assert np.abs(np.subtract(alone, together[0])).max() < loss_atol
    assert max(alone) - min(alone) > 0.1
    expected, got = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", strategy))
    assert expected.keys() == got.keys()
    assert all(torch.isclose(got[name], w, rtol=0, atol=gradient_atol).all() for name, w in expected.items())


def _restored(
    spec: RunSpec, data: WindowData, source: Path | None, target: Path, *, strategy: str
) -> list[float]:
    """Take over a checkpoint, or make two steps, and write a checkpoint; then the loss of one more step."""
    train = torch.from_numpy(data.origins["train"][:32])
    processes = meet(strategy, CPU)
    execution = ExecutionConfig(device="cpu", strategy=strategy)
    stepper = Stepper(spec, data, execution=execution, device=CPU, processes=processes)
    if source is None:
        stepper.update(train)
        stepper.update(train)
        best = {name: whole(tensor).clone() for name, tensor in stepper.model.state_dict().items()}
    else:
        best = restore(stepper.model, stepper.optimizer, load_file(source))
        stepper.step = 2
    with evaluating(stepper.model):
        stepper.model(stepper.windows.gather(train))
    tensors = checkpoint_tensors(stepper.model, stepper.optimizer, best=best)
    if processes.leads:
        save_file(tensors, target)
    stepper.update(train)
    return [processes.total(stepper.update(train))]


@pytest.mark.parametrize(
    "optimizer", [{"optimizer": "adamw"}, {"optimizer": "ademamix"}, {"optimizer": "sgd", "momentum": 0.9}]
)
def test_a_checkpoint_passes_from_two_processes_to_one_and_back_without_a_bit_changed(
    optimizer: dict[str, Any], tmp_path: Path, make_data: Windows, make_spec: Specs, in_processes: InProcesses
) -> None:
    data = make_data()
    work = functools.partial(_restored, make_spec(data, dropout=0.0, n_layers=2, **optimizer), data)
    path = {name: tmp_path / f"{name}.safetensors" for name in ("fsdp", "one", "ddp", "again")}
    losses = [
        in_processes(2, functools.partial(work, None, path["fsdp"], strategy="fsdp"))[0],
        in_processes(1, functools.partial(work, path["fsdp"], path["one"], strategy="one"))[0],
        in_processes(2, functools.partial(work, path["one"], path["again"], strategy="fsdp"))[0],
        in_processes(2, functools.partial(work, path["one"], path["ddp"], strategy="ddp"))[0],
    ]
    first, *others = (load_file(file) for file in path.values())
    names = {part: {key.split("/")[1] for key in first if key.startswith(part)} for part in ("model", "best")}
    assert (
        names["model"] == names["best"] == {key.split("/")[1] for key in first if key.startswith("optimizer")}
    )
    for other in others:
        assert first.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in first.items())
    assert np.ptp(losses) < 1e-4


def _trained(
    spec: RunSpec, data: WindowData, folders: list[Path], *, strategy: str, stop_at: int | None = None
) -> dict[str, Any]:
    """Train; only the last process asks to stop, at one of its steps."""
    rank, events, asked = int(os.environ.get("RANK", "0")), list[Event](), iter(range(10**6))
    folder = folders[rank % len(folders)]
    stops = stop_at is not None and rank == int(os.environ.get("WORLD_SIZE", "1")) - 1
    result = train(
        spec,
        data,
        directory=folder,
        execution=ExecutionConfig(device="cpu", strategy=strategy, checkpoint_every_s=0.0),
        on_event=events.append,
        should_stop=(lambda: next(asked) == stop_at) if stops else never,
    )
    record = result.model_dump(mode="json", include={"outcome", "n_steps", "best_epoch", "executed", "batch"})
    losses = [(epoch.train_loss, epoch.val_loss) for epoch in result.curve]
    return {**record, "losses": losses, "told": [type(event).__name__ for event in events]}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_stopped_run_of_two_goes_on_in_one_as_if_it_had_always_been_alone(
    strategy: str, tmp_path: Path, make_data: Windows, make_spec: Specs, in_processes: InProcesses
) -> None:
    data = make_data(1600, signal=2.0)
    work = functools.partial(
        _trained, make_spec(data, dropout=0.0, effective_batch_size=64, micro_batch_size=64), data
    )
    stopped = in_processes(2, functools.partial(work, [tmp_path / "a"], strategy=strategy, stop_at=20))
    assert [(told["outcome"], told["n_steps"]) for told in stopped] == [("stopped", 20)] * 2
    assert stopped[0]["executed"]["strategy"] == strategy
    assert stopped[0]["executed"]["n_processes"] == 2
    assert stopped[0]["batch"]["micro_batch_size"] == 32
    assert stopped[0]["losses"] == stopped[1]["losses"] != []
    assert "EpochEnd" in stopped[0]["told"]
    assert stopped[1]["told"] == []
    [resumed] = in_processes(1, functools.partial(work, [tmp_path / "a"], strategy="one"))
    [whole_run] = in_processes(1, functools.partial(work, [tmp_path / "b"], strategy="one"))
    assert "Resumed" in resumed["told"]
    assert (resumed["outcome"], resumed["best_epoch"]) == ("complete", whole_run["best_epoch"])
    assert np.allclose(resumed["losses"], whole_run["losses"], rtol=0, atol=1e-4)


def test_a_loss_that_is_not_finite_in_one_process_ends_all_of_them(
    tmp_path: Path, make_data: Windows, make_spec: Specs, in_processes: InProcesses
) -> None:
    data = make_data()
    data.values[0] = np.nan  # in the first training window alone
    work = functools.partial(_trained, make_spec(data), data, [tmp_path / "run"], strategy="ddp")
    assert [told["outcome"] for told in in_processes(2, work)] == ["diverged"] * 2


def test_processes_that_do_not_share_their_directory_are_refused(
    tmp_path: Path, make_data: Windows, make_spec: Specs, in_processes: InProcesses
) -> None:
    data = make_data()
    folders, spec = [tmp_path / "a", tmp_path / "b"], make_spec(data)
    _trained(
        spec.model_copy(update={"training": spec.training.model_copy(update={"max_steps": 4})}),
        data,
        folders,
        strategy="one",
    )

    def refused() -> str:
        with pytest.raises(Fault, match="directory that all of them share") as fault:
            _trained(spec, data, folders, strategy="ddp")
        return str(fault.value)

    assert all("got -1 to 4" in message for message in in_processes(2, refused))


def test_the_others_end_with_an_error_when_a_process_is_killed(
    tmp_path: Path, make_data: Windows, make_spec: Specs, in_processes: InProcesses
) -> None:
    data = make_data()
    spec = make_spec(data, epochs=200)

    def work() -> None:
        steps = iter(range(10**6))

        def dies() -> bool:
            if os.environ["RANK"] == "1" and next(steps) == 10:
                os.kill(os.getpid(), signal.SIGKILL)
            return False

        execution = ExecutionConfig(device="cpu", strategy="ddp", checkpoint_every_s=0.0)
        train(spec, data, directory=tmp_path / "run", execution=execution, should_stop=dies)

    in_processes(2, work, expected_exit=(1, -signal.SIGKILL))
    assert list((tmp_path / "run" / "checkpoints").glob("*.json"))
    assert not (tmp_path / "run" / "result.json").exists()


def _losses_of_one_window_twice(spec: RunSpec, data: WindowData) -> float:
    processes = meet("ddp", CPU)
    execution = ExecutionConfig(device="cpu", strategy="ddp")
    stepper = Stepper(spec, data, execution=execution, device=CPU, processes=processes)
    return float(stepper.update(torch.from_numpy(data.origins["train"][[0, 0]])))


def test_processes_drop_different_numbers(
    make_data: Windows, make_spec: Specs, in_processes: InProcesses
) -> None:
    data = make_data()
    same, different = (
        in_processes(2, functools.partial(_losses_of_one_window_twice, make_spec(data, dropout=rate), data))
        for rate in (0.0, 0.5)
    )
    assert same[0] == same[1]
    assert different[0] != different[1]


def _answers(n_parts: int) -> tuple[list[list[float]], list[int]]:
    """What `share_out` returns, and which parts this process worked on."""
    worked: list[int] = []

    def work(number: int) -> Any:
        worked.append(number)
        return np.full((number + 1, 2), 1.0 + number)

    processes = meet("ddp", CPU)
    parts = processes.share_out(work, [number + 1 for number in range(n_parts)])
    return [part.tolist() for part in parts], worked


@pytest.mark.parametrize("n_parts", [1, 5])
def test_every_process_knows_all_answers_and_works_on_equally_many(
    n_parts: int, in_processes: InProcesses
) -> None:
    answers = in_processes(2, functools.partial(_answers, n_parts))
    expected = [np.full((number + 1, 2), 1.0 + number).tolist() for number in range(n_parts)]
    assert [answer for answer, _ in answers] == [expected] * 2
    assert len({len(worked) for _, worked in answers}) == 1
    assert max(len(worked) for _, worked in answers) == (n_parts + 1) // 2


def test_the_command_trains_with_every_process_and_tells_faults_in_words(
    tmp_path: Path,
    make_data: Windows,
    make_spec: Specs,
    in_processes: InProcesses,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = make_data()
    save_windows(tmp_path / "windows", data)
    write_run_spec(tmp_path / "wanted.json", make_spec(data, epochs=1))
    words = [str(tmp_path / name) for name in ("wanted.json", "windows", "run")]
    assert in_processes(2, lambda: main([*words, "device=cpu", "strategy=fsdp"])) == [0, 0]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["outcome"], result["executed"]["strategy"]) == ("complete", "fsdp")
    assert main(words[:2]) == 1
    assert "SPEC WINDOWS FOLDER" in capsys.readouterr().err
    assert main([*words, "device=cpu", "stratgey=fsdp"]) == 1
    assert "strategy" in capsys.readouterr().err


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_several_processes_without_torchrun_are_refused_with_its_command(strategy: str) -> None:
    with pytest.raises(Fault, match="torchrun --nproc-per-node"):
        meet(strategy, CPU)


def test_one_device_among_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(Fault, match="ddp or fsdp where 2 processes"):
        meet("one", CPU)


def test_a_device_without_a_backend_is_refused() -> None:
    with pytest.raises(Fault, match="be one on mps"):
        meet("ddp", torch.device("mps"))


def test_a_model_that_normalises_over_its_batch_is_refused(
    make_data: Windows, make_spec: Specs, in_processes: InProcesses
) -> None:
    data = make_data()
    spec = make_spec(data)
    model = type(spec.model)(**{**spec.model.model_dump(), "norm": "batch_norm"})

    def refused() -> str:
        processes = meet("ddp", CPU)
        with pytest.raises(Fault, match="batch_norm") as fault:
            Stepper(
                spec.model_copy(update={"model": model}),
                data,
                execution=ExecutionConfig(device="cpu", strategy="ddp"),
                device=CPU,
                processes=processes,
            )
        return str(fault.value)

    assert in_processes(2, refused)


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_pipeline_refuses_to_run_in_every_process_of_torchrun(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(cli, [command])
    assert result.exit_code == 1
    assert "several_devices.md" in result.output
