"""How much memory a run took."""

import resource
import sys

import torch

__all__ = ["peak_memory_bytes", "reset_peak_memory"]


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
