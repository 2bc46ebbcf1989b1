"""The probe runs a real training step and tells a full device from a faulty model."""

from pathlib import Path

import psutil
import pytest
import torch

from finscale.archgrid import probe
from finscale.archgrid.batching import BatchRequest, choose_batch
from finscale.models.config import PatchTSTConfig, TransformerConfig
from finscale.models.patchtst import PatchTST

PATCHTST = PatchTSTConfig(d_model=16, n_layers=2, n_heads=2, d_ff=32)
DECODER = TransformerConfig(vocab_size=9, d_model=16, n_layers=1, n_heads=2, d_ff=32)


def request(config: PatchTSTConfig | TransformerConfig = PATCHTST, **options: object) -> BatchRequest:
    return BatchRequest.model_validate({"config": config, "n_features": 3, "context_length": 24, **options})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("config", [PATCHTST, DECODER], ids=["patchtst", "transformer"])
def test_a_step_runs_the_whole_micro_batch_forward_and_backward(
    monkeypatch: pytest.MonkeyPatch, config: PatchTSTConfig | TransformerConfig, precision: str
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
