"""Named tensors: bit-exact there and back, and a damaged file is said so."""

from pathlib import Path

import pytest
import torch

from finscale.core.errors import Fault
from finscale.datasets.weights import WeightsDataset


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    dataset = WeightsDataset(filepath=str(tmp_path / "deep" / "w.safetensors"))
    tensors = {"a/weight": torch.randn(3, 2), "a/count": torch.arange(4)}
    assert not dataset.exists()
    dataset.save(tensors)
    found = dataset.load()
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "w.safetensors"
    dataset = WeightsDataset(filepath=str(path))
    if damage == "truncated":
        dataset.save({"weight": torch.randn(30, 30)})
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Exception, match=r"must be a readable safetensors file.*run the pipeline") as caught:
        dataset.load()
    assert isinstance(caught.value, Fault) or isinstance(caught.value.__cause__, Fault)
