"""The probe runs a real training step and tells a full device from a faulty model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from finscale.archgrid import probe
from finscale.archgrid.batching import BatchRequest, choose_batch
from finscale.models.config import (
    AnyConfig,
    DLinearConfig,
    MigtTvdtConfig,
    PatchTSTConfig,
    TransformerConfig,
    parse_model_config,
)
from finscale.models.layers.block import BlockStack
from finscale.models.patchtst import PatchTST

PATCHTST = PatchTSTConfig(d_model=16, n_layers=2, n_heads=2, d_ff=32)
DECODER = TransformerConfig(vocab_size=9, d_model=16, n_layers=1, n_heads=2, d_ff=32)
SHAPE = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 32}
BARS = {"family": "transformer", **SHAPE, "categories": [4], "feature_embedding_dims": [6]}
CALENDAR = {"family": "patchtst", **SHAPE, "positions": {"kind": "calendar", "session_bars": 78}}


def request(config: AnyConfig = PATCHTST, **options: object) -> BatchRequest:
    return BatchRequest.model_validate({"config": config, "n_features": 3, "context_length": 24, **options})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "config",
    [
        *(PATCHTST, DECODER, DLinearConfig(), parse_model_config(BARS), parse_model_config(CALENDAR)),
        MigtTvdtConfig(**SHAPE),
    ],
    ids=["patchtst", "transformer", "dlinear", "bars", "calendar", "migt_tvdt"],
)
def test_a_step_runs_the_whole_micro_batch_forward_and_backward(
    monkeypatch: pytest.MonkeyPatch, config: AnyConfig, precision: str
) -> None:
    seen: list[tuple[int, bool]] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW) -> None:
        (group,) = self.param_groups
        seen.append((len(group["params"]), all(p.grad is not None for p in group["params"])))
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    assert probe.step_fits(request(config, precision=precision), 5)
    n_tensors = len(list(probe.build_model(config, n_features=3, context_length=24, seed=0).parameters()))
    assert seen == [(n_tensors, True)] * 2


def test_a_step_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    probe.step_fits(request(), 4)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("active", [True, False])
def test_a_step_computes_its_blocks_again_when_asked_to(
    monkeypatch: pytest.MonkeyPatch, active: bool
) -> None:
    seen: list[bool] = []
    forward = BlockStack.forward

    def watched(self: BlockStack, *args: object, **options: object) -> torch.Tensor:
        seen.append(self.checkpoint)
        return forward(self, *args, **options)

    monkeypatch.setattr(BlockStack, "forward", watched)
    assert probe.step_fits(request(), 4, activation_checkpointing=active)
    assert seen == [active] * 2


@pytest.mark.parametrize("config", [PATCHTST, DECODER], ids=["patchtst", "transformer"])
def test_computing_blocks_again_moves_no_gradient(config: AnyConfig) -> None:
    def gradients(active: bool) -> list[torch.Tensor]:
        model = probe.build_model(config, n_features=3, context_length=24, seed=0).train()
        probe.checkpoint_activations(model, active)
        batch = probe._batch(request(config), 4)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            sum(head.square().mean() for head in model(batch).prediction.values()).backward()
        return [parameter.grad for parameter in model.parameters()]

    assert all(map(torch.equal, gradients(True), gradients(False)))


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]


@pytest.mark.parametrize("error", FULL, ids=["cuda", "mps", "cpu"])
def test_a_full_device_is_an_answer(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(self: PatchTST, batch: object) -> None:
        if len(batch.values) > 40:
            raise error

        return PatchTST_forward(self, batch)

    PatchTST_forward = PatchTST.forward
    monkeypatch.setattr(PatchTST, "forward", full)
    assert not probe.step_fits(request(), 41)
    monkeypatch.setattr("finscale.archgrid.batching._measured", {})
    monkeypatch.setattr("finscale.archgrid.batching._PLAINLY_SMALL", 0.0)
    batch = choose_batch("measured", PATCHTST, n_features=3, context_length=24)
    assert (batch.micro_batch_size, batch.accumulation_steps) == (32, 4)


def test_a_real_limit_of_memory_is_found_by_the_probe_and_the_batch_stays_whole() -> None:
    # one arena: another thread's would take 64 MiB of the address space that is limited here
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    child = subprocess.run(
        [sys.executable, "-c", LIMITED],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=environment,
    )
    found = json.loads(child.stdout)
    assert found["tried"][0] == 128
    assert found["tried"] == [128 // 2**k for k in range(len(found["tried"]))]
    assert 1 < len(found["tried"]) <= 8  # how far below the limit depends on the allocator
    assert found["batch"]["micro_batch_size"] == found["tried"][-1]
    assert found["batch"]["effective_batch_size"] == 128
    assert found["batch"]["micro_batch_size"] * found["batch"]["accumulation_steps"] == 128
    assert found["left"] <= found["allowed"]


LIMITED = """
import json, resource, psutil, torch
from finscale.archgrid import batching, probe
from finscale.models.config import PatchTSTConfig

config = PatchTSTConfig(d_model=64, n_layers=16, n_heads=4, d_ff=256)
request = batching.BatchRequest(config=config, n_features=8, context_length=60)
probe.step_fits(request, 1)  # what a first step loads is not to be limited
allowed = batching._predicted(request, 60, False)
limit = psutil.Process().memory_info().vms + allowed
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
left = probe.free_bytes("cpu")

tried, step_fits = [], probe.step_fits
def watched(request, micro, **options):
    tried.append(micro)
    return step_fits(request, micro, **options)
probe.step_fits = watched
probe.free_bytes = lambda device: 10**15  # the memory model knows of no limit: only the probe can find it
batching._PLAINLY_SMALL = 0.0
batch = batching.measured_batch(request)
print(json.dumps({"tried": tried, "batch": batch.model_dump(), "left": left, "allowed": allowed}))
"""


def test_any_other_error_is_not_taken_for_a_full_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: PatchTST, batch: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(PatchTST, "forward", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        probe.step_fits(request(), 4)


def test_a_container_limit_below_the_free_memory_counts_and_its_file_cache_does_not(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("10000\n")
    (tmp_path / "memory.current").write_text("7000\n")
    (tmp_path / "memory.stat").write_text("anon 5000\ninactive_file 1500\n")
    assert probe.free_host_bytes(tmp_path) == 10000 - 7000 + 1500


@pytest.mark.parametrize("limit", ["max\n", f"{10**18}\n", None])
def test_without_a_container_limit_the_free_memory_of_the_machine_counts(
    tmp_path: Path, limit: str | None
) -> None:
    if limit is not None:
        (tmp_path / "memory.max").write_text(limit)
        (tmp_path / "memory.current").write_text("7000")
        (tmp_path / "memory.stat").write_text("inactive_file 0")
    assert probe.free_host_bytes(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.3)
