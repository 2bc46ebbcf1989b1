"""A step does what the batch configuration says, and says what it did."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from finscale.training.checkpoint import Checkpoints, Progress, checkpoint_tensors, restore
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import RunSpec
from finscale.training.step_graph import StepGraph
from finscale.training.stepper import Stepper
from finscale.windows.data import WindowData


def test_activation_checkpointing_is_applied_recorded_and_changes_no_number(
    make_data: Callable[..., WindowData], make_spec: Callable[..., RunSpec]
) -> None:
    data, execution, device = make_data(), ExecutionConfig(device="cpu"), torch.device("cpu")
    spec = make_spec(data)
    steppers = [
        Stepper(
            spec.model_copy(
                update={"batch": spec.batch.model_copy(update={"activation_checkpointing": active})}
            ),
            data,
            execution=execution,
            device=device,
        )
        for active in (False, True)
    ]
    origins = torch.from_numpy(data.origins["train"][:16])
    losses = [stepper.update(origins) for stepper in steppers]
    assert [stepper.model.blocks.checkpoint for stepper in steppers] == [False, True]
    assert [stepper.batch.activation_checkpointing for stepper in steppers] == [False, True]
    assert torch.equal(*losses)
    plain, again = (stepper.model.state_dict() for stepper in steppers)
    assert all(torch.equal(tensor, again[name]) for name, tensor in plain.items())


CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw", "betas": (0.8, 0.9)},
    "ademamix": {"optimizer": "ademamix", "slow_beta": 0.99},
    "plain sgd": {"optimizer": "sgd"},
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
}
Windows = Callable[..., WindowData]
Specs = Callable[..., RunSpec]


def _stepper(spec: RunSpec, data: WindowData, **execution: Any) -> Stepper:
    return Stepper(spec, data, execution=ExecutionConfig(device="cpu", **execution), device=CPU)


def _origins(data: WindowData, step: int) -> torch.Tensor:
    return torch.from_numpy(data.origins["train"][16 * step : 16 * step + 16])


def _through_a_checkpoint(stepper: Stepper, fresh: Stepper, folder: Path) -> None:
    """Hand what ``stepper`` knows to ``fresh`` by way of the disk."""
    tensors = checkpoint_tensors(stepper.model, stepper.optimizer, best={})
    progress = Progress(step=stepper.step, batch=stepper.batch, loss_scale=stepper.loss_scale)
    Checkpoints(folder, "mine").save(progress, tensors)
    found = Checkpoints(folder, "mine").load(lambda event: None)
    assert found is not None
    restore(fresh.model, fresh.optimizer, found[2])
    fresh.go_on_from(found[1])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_from_a_checkpoint_bit_for_bit(
    name: str, precision: str, tmp_path: Path, make_data: Windows, make_spec: Specs
) -> None:
    data = make_data()
    spec = make_spec(data, dropout=0.2, **OPTIMIZERS[name])
    whole, fresh = (_stepper(spec, data, precision=precision) for _ in range(2))
    for step in range(3):
        whole.update(_origins(data, step))
    _through_a_checkpoint(whole, fresh, tmp_path)
    for step in range(3, 7):
        assert torch.equal(whole.update(_origins(data, step)), fresh.update(_origins(data, step)))
    expected = checkpoint_tensors(whole.model, whole.optimizer, best={})
    found = checkpoint_tensors(fresh.model, fresh.optimizer, best={})
    assert expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[key]) for key, tensor in expected.items())
    assert whole.loss_scale == fresh.loss_scale


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adam", {"optimizer": "Adam", "betas": (0.9, 0.999), "momentum": None, "fused": True}),
        ("adamw", {"optimizer": "AdamW", "betas": (0.8, 0.9), "nesterov": None}),
        ("ademamix", {"optimizer": "AdEMAMix", "betas": (0.9, 0.999, 0.99), "fused": False}),
        ("sgd", {"optimizer": "SGD", "betas": None, "momentum": 0.9, "nesterov": True, "fused": True}),
    ],
)
def test_what_is_recorded_of_an_optimizer_is_read_from_it(
    name: str, expected: dict[str, Any], make_data: Windows, make_spec: Specs
) -> None:
    data = make_data()
    executed = _stepper(make_spec(data, schedule="onecycle", **OPTIMIZERS[name]), data).executed()
    found = executed.model_dump(include=set(expected))
    assert found == expected
    assert (executed.schedule, executed.loss_scale) == ("onecycle", None)


def test_ademamix_warms_up_over_the_whole_schedule(make_data: Windows, make_spec: Specs) -> None:
    data = make_data()
    stepper = _stepper(make_spec(data, optimizer="ademamix", max_steps=2), data)
    groups = stepper.optimizer.param_groups
    assert {group["warmup_steps"] for group in groups} == {stepper.total_steps}


def test_scaled_half_precision_gradients_make_about_the_step_of_full_precision(
    make_data: Windows, make_spec: Specs
) -> None:
    """A CPU has fp16 too, slowly: what is scaled must be unscaled before it is clipped."""
    data = make_data()
    spec = make_spec(data, optimizer="sgd", learning_rate=0.5, warmup_steps=0, clip_norm=0.05)
    steppers = [_stepper(spec, data, precision=precision) for precision in ("fp32", "fp16")]
    for stepper in steppers:
        stepper.update(_origins(data, 0))
    assert steppers[1].loss_scale.scale == 65536
    for full, half in zip(*(stepper.model.parameters() for stepper in steppers), strict=True):
        torch.testing.assert_close(half, full, atol=1e-3, rtol=0)


def test_gradients_that_overflow_make_no_step_and_a_smaller_scale(
    make_data: Windows, make_spec: Specs
) -> None:
    data = make_data()
    stepper = _stepper(make_spec(data), data, precision="fp16")
    stepper.scaler.load_state_dict({**stepper.scaler.state_dict(), "scale": 2.0**120})
    before = [weights.detach().clone() for weights in stepper.model.parameters()]
    stepper.update(_origins(data, 0))
    assert all(map(torch.equal, before, stepper.model.parameters()))
    assert stepper.executed().loss_scale == 2.0**119


@needs_cuda
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_on_cuda(
    precision: str, make_data: Windows, make_spec: Specs, train_tiny: Callable[..., Any]
) -> None:
    data = make_data(signal=3.0)
    result = train_tiny(make_spec(data, epochs=8), data, device="cuda", precision=precision)
    assert result.outcome == "complete"
    assert result.best_val_loss < result.base_rate_loss


@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_replayed_step_gives_the_numbers_of_the_step_itself(
    precision: str, make_data: Windows, make_spec: Specs, train_tiny: Callable[..., Any]
) -> None:
    data = make_data(signal=3.0)
    spec = make_spec(data, epochs=3)
    whole, plain = (
        train_tiny(spec, data, name=str(graph), device="cuda", precision=precision, cuda_graph=graph)
        for graph in (True, False)
    )
    assert whole.executed.cuda_graph
    assert not plain.executed.cuda_graph
    losses = [[row.train_loss for row in run.curve] for run in (whole, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # the rate on the device is a float32


@needs_cuda
@pytest.mark.parametrize("graph", [True, False])
def test_a_step_on_cuda_never_waits_for_the_device(graph: bool, make_data: Windows, make_spec: Specs) -> None:
    data = make_data()
    execution = ExecutionConfig(device="cuda", precision="bf16", cuda_graph=graph)
    stepper = Stepper(make_spec(data), data, execution=execution, device=torch.device("cuda"))
    origins = torch.from_numpy(data.origins["train"]).cuda()[: stepper.training.effective_batch_size]
    stepper.update(origins)
    torch.cuda.set_sync_debug_mode("error")
    try:
        stepper.update(origins)
    finally:
        torch.cuda.set_sync_debug_mode("default")


class _Replay:
    """Stands in for a CUDA graph where there is no device: replaying takes the recorded step again."""

    def __init__(self) -> None:
        self.step: Callable[[], None] = lambda: None

    def replay(self) -> None:
        self.step()


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step be recorded on the CPU, where recording computes, as its warm-up does everywhere."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, stand_in in {
        "CUDAGraph": _Replay,
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "stream": lambda stream: nullcontext(),
        "graph": lambda graph: nullcontext(),
        "get_rng_state": lambda device: torch.get_rng_state(),
        "set_rng_state": lambda state, device: torch.set_rng_state(state),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)


@pytest.mark.parametrize("n_before", [0, 2], ids=["at the start", "of a resumed run"])
def test_recording_a_step_leaves_weights_and_optimizer_as_they_were(
    n_before: int, without_cuda: None, make_data: Windows, make_spec: Specs
) -> None:
    data = make_data()
    plain, recorded = (
        Stepper(make_spec(data), data, execution=ExecutionConfig(device="cpu"), device=CPU) for _ in range(2)
    )
    origins = torch.from_numpy(data.origins["train"])
    for stepper in (plain, recorded):
        for _ in range(n_before):
            stepper.update(origins[:16])
    whole = StepGraph(recorded._make_step, recorded.model, recorded.optimizer, group_size=16)
    whole(origins[:16])  # records; replaying does nothing yet
    before, after = (checkpoint_tensors(s.model, s.optimizer, best={}) for s in (plain, recorded))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(after[name].any() for name in after.keys() - before.keys())


def test_a_group_of_another_size_is_not_replayed(
    without_cuda: None, make_data: Windows, make_spec: Specs
) -> None:
    data, seen = make_data(), list[int]()
    stepper = Stepper(make_spec(data), data, execution=ExecutionConfig(device="cpu"), device=CPU)

    def step(origins: torch.Tensor) -> torch.Tensor:
        seen.append(len(origins))
        return torch.zeros(())

    whole = StepGraph(step, stepper.model, stepper.optimizer, group_size=16)
    origins = torch.from_numpy(data.origins["train"])
    for n_windows in (16, 16, 5, 16):
        whole(origins[:n_windows])
    assert seen == [16, 16, 16, 16, 5]  # three to warm up, one to record, and the odd one


_COMPILED = """
import torch
from finscale.models.config import PatchTSTConfig
from finscale.models.contract import Batch
from finscale.models.registry import build_model
from finscale.training.execution import compile_regional

inductor = torch.nn.Module.compile
torch.nn.Module.compile = lambda block, **options: inductor(block, backend="eager", **options)
config = PatchTSTConfig(d_model=8, n_layers=3, n_heads=2, d_ff=16, patch_length=4, stride=2, dropout=0.0)
plain, regional = (build_model(config, n_features=3, context_length=8, seed=0).train() for _ in range(2))
compile_regional(regional)
for model in (plain, regional):
    model(Batch(values=torch.ones(5, 8, 3).cumsum(1))).prediction["logits"].sum().backward()
for ours, theirs in zip(plain.parameters(), regional.parameters(), strict=True):
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)
assert plain.state_dict().keys() == regional.state_dict().keys()
counters = torch._dynamo.utils.counters
print(counters["stats"]["unique_graphs"], dict(counters["graph_break"]))
"""


def test_regional_compilation_compiles_one_block_for_all_and_gives_the_same_gradients() -> None:
    """In a process of its own: the tests' shape checks cannot be compiled."""
    done = subprocess.run([sys.executable, "-c", _COMPILED], capture_output=True, text=True, check=False)
    assert done.stdout == "1 {}\n", done.stderr


def test_where_compiling_pays_regional_compiles_every_block_and_is_recorded(
    make_data: Windows, make_spec: Specs, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = list[torch.nn.Module]()
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append(module))
    monkeypatch.setattr("finscale.training.stepper.COMPILED_ON", ("cpu",))
    data = make_data()
    stepper = _stepper(make_spec(data, n_layers=3), data, compile="regional")
    assert compiled == list(stepper.model.blocks)
    assert stepper.executed().compile == "regional"


def test_regional_compilation_is_left_out_on_a_cpu(make_data: Windows, make_spec: Specs) -> None:
    data = make_data()
    assert _stepper(make_spec(data), data, compile="regional").executed().compile == "off"
