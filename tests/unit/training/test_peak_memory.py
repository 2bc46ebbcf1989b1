"""The peak that a record states is at least what a run held."""

import torch

from finscale.training.memory import peak_memory_bytes


def test_peak_memory_of_the_process_counts_a_large_tensor() -> None:
    torch.ones(200_000_000, dtype=torch.uint8)
    assert peak_memory_bytes(torch.device("cpu")) > 200_000_000
