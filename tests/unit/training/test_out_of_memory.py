import pytest
import torch

from finscale.training.memory import is_out_of_memory, peak_memory_bytes


def _allocate_far_too_much() -> None:
    torch.empty(2**60, dtype=torch.uint8)


def test_the_cpu_allocators_own_refusal_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        _allocate_far_too_much()
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "exception",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        MemoryError(),
    ],
)
def test_every_backends_shortage_is_recognised(exception: BaseException) -> None:
    assert is_out_of_memory(exception)


@pytest.mark.parametrize(
    "exception", [RuntimeError("shape mismatch"), ValueError("out of memory"), OSError()]
)
def test_other_failures_are_not_taken_for_a_shortage(exception: BaseException) -> None:
    assert not is_out_of_memory(exception)


def test_peak_memory_of_the_process_counts_a_large_tensor() -> None:
    torch.ones(200_000_000, dtype=torch.uint8)
    assert peak_memory_bytes(torch.device("cpu")) > 200_000_000
