from pathlib import Path

import pytest
import torch

from finscale.core.errors import Fault
from finscale.training.checkpoint import Checkpoints, Progress, checkpoint_tensors, clear_checkpoints, restore
from finscale.training.events import CheckpointRejected, Event

STEPS = (10, 20, 30)


def _tensors(step: int) -> dict[str, torch.Tensor]:
    return {"model/w": torch.full((100,), float(step))}


def _saved(directory: Path, steps: tuple[int, ...] = STEPS) -> Checkpoints:
    store = Checkpoints(directory, "mine")
    for step in steps:
        store.save(Progress(step=step), _tensors(step))
    return store


def _loaded_step(directory: Path, events: list[Event] | None = None) -> int | None:
    found = Checkpoints(directory, "mine").load((events if events is not None else []).append)
    if found is None:
        return None
    _, progress, tensors = found
    assert torch.equal(tensors["model/w"], _tensors(progress.step)["model/w"])
    return progress.step


def test_the_newest_checkpoint_is_loaded_and_only_the_one_before_is_kept(tmp_path: Path) -> None:
    store = _saved(tmp_path)
    assert _loaded_step(tmp_path) == 30
    stems = sorted({path.stem for path in store.folder.iterdir()})
    assert stems == ["step_000000020", "step_000000030"]


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "delete"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    suffix: str, damage: str, tmp_path: Path
) -> None:
    path = _saved(tmp_path).folder / f"step_000000030{suffix}"
    content = path.read_bytes()
    half = len(content) // 2
    damaged = {"truncate": content[:half], "empty": b""}
    damaged["flip"] = content[:half] + bytes([content[half] ^ 0x80]) + content[half + 1 :]
    path.unlink()
    if damage != "delete":
        path.write_bytes(damaged[damage])
    events: list[Event] = []
    assert _loaded_step(tmp_path, events) == 20
    assert [type(event) for event in events] == (
        [] if damage == "delete" and suffix == ".json" else [CheckpointRejected]
    )


def test_with_no_good_checkpoint_nothing_is_loaded(tmp_path: Path) -> None:
    for path in _saved(tmp_path).folder.glob("*.safetensors"):
        path.write_bytes(b"")
    events: list[Event] = []
    assert _loaded_step(tmp_path, events) is None
    assert len(events) == 2


def test_after_a_damaged_checkpoint_the_next_save_keeps_two_good_ones(tmp_path: Path) -> None:
    (_saved(tmp_path).folder / "step_000000030.safetensors").write_bytes(b"")
    store = Checkpoints(tmp_path, "mine")
    store.load(lambda event: None)
    store.save(Progress(step=25), _tensors(25))
    assert sorted({path.stem for path in store.folder.iterdir()}) == ["step_000000020", "step_000000025"]


def test_a_foreign_checkpoint_is_refused_by_both_names(tmp_path: Path) -> None:
    _saved(tmp_path)
    with pytest.raises(Fault, match=r"fingerprint theirs, got 'mine'.*delete this one"):
        Checkpoints(tmp_path, "theirs").load(lambda event: None)


def test_cleared_checkpoints_are_gone_and_nothing_else_is(tmp_path: Path) -> None:
    _saved(tmp_path)
    (tmp_path / "best.safetensors").write_bytes(b"x")
    clear_checkpoints(tmp_path)
    clear_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]


@pytest.mark.parametrize("optimizer_class", [torch.optim.AdamW, torch.optim.Adam])
def test_a_restored_optimizer_makes_the_same_next_step(optimizer_class: type[torch.optim.Optimizer]) -> None:
    def made() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
        groups = [{"params": [model[0].weight, model[1].bias]}, {"params": [model[0].bias, model[1].weight]}]
        return model, optimizer_class(groups, lr=0.1, fused=True)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()

    model, optimizer = made()
    step(model, optimizer, 1)
    tensors = {name: tensor.clone() for name, tensor in checkpoint_tensors(model, optimizer, best={}).items()}
    twin, twin_optimizer = made()
    assert restore(twin, twin_optimizer, tensors) == {}
    for seed in (2, 3):
        step(model, optimizer, seed)
        step(twin, twin_optimizer, seed)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
