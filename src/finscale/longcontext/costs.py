"""What a row of answers costs."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from finscale.longcontext.pretrained_config import SystemConfig
from finscale.training.memory import peak_memory_bytes, reset_peak_memory

__all__ = ["with_costs"]

Answers = TypeVar("Answers")


def with_costs(
    answer: Callable[[], Answers], *, n_tokens: int, device: torch.device, system: SystemConfig | None
) -> tuple[Answers, dict[str, Any]]:
    """Return the answers and the fields of a row that say what they cost.

    Parameters
    ----------
    answer : callable
        Gives the answers.
    n_tokens : int
        Tokens that are read for them.
    device : device
        Whose memory counts.
    system : SystemConfig or None
        What is to be noted beside ``runtime_s``; None is nothing.
    """
    reset_peak_memory(device)
    started_s = time.perf_counter()
    answers = answer()
    costs: dict[str, Any] = {"runtime_s": time.perf_counter() - started_s}
    if system is not None and system.log_memory:
        costs["peak_bytes"] = peak_memory_bytes(device)
    if system is not None and system.log_throughput:
        costs["tokens_per_s"] = n_tokens / costs["runtime_s"]
    return answers, costs
