"""How much memory a run took, and whether an exception says there was too little."""

import resource
import sys

import torch

__all__ = ["is_out_of_memory", "peak_memory_bytes", "reset_peak_memory"]

_TEXTS = (
    "out of memory",  # CUDA and MPS allocators
    "can't allocate memory",  # CPU allocator
    "not enough memory",  # CPU allocator on Windows and macOS
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def is_out_of_memory(exception: BaseException) -> bool:
    """Whether an exception means that the device or the host ran out of memory."""
    if isinstance(exception, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(exception, RuntimeError) and any(text in str(exception).lower() for text in _TEXTS)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new peak on CUDA; other devices keep theirs."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of tensors on CUDA, what the driver holds on MPS, else the peak of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
