"""Decide whether reading in chunks takes constant memory. No torch."""

from collections.abc import Sequence

import pandas as pd

from finscale.longcontext.gate import Gate
from finscale.longcontext.gate_config import GateConfig

__all__ = ["memory_gates"]


def memory_gates(system: pd.DataFrame, config: GateConfig, *, windowed: Sequence[str]) -> list[Gate]:
    """Ask whether the state of a windowed mode has one size, and memory grows by no more than allowed."""
    return [_memory(system, config, mode) for mode in windowed]


def _memory(system: pd.DataFrame, config: GateConfig, mode: str) -> Gate:
    common = {"name": "memory_growth", "mode": mode, "threshold": config.max_growth}
    if system.empty or system[(system["mode"] == mode)].empty:
        return Gate(**common, outcome="not_measurable", reason="it was not streamed")
    read = system[(system["mode"] == mode) & (system["length"] >= config.memory_from)].sort_values("length")
    if read["length"].nunique() < 2:
        reason = f"fewer than two streams from {config.memory_from} symbols"
        return Gate(**common, outcome="not_measurable", n=len(read), reason=reason)
    # the peak of a process holds its imports, which outweigh a small model's stream
    memory = read["peak_bytes"].where(read["device"] == "cuda", read["rss_bytes"])
    if memory.isna().any():
        reason = "memory was not noted: set system.log_memory"
        return Gate(**common, outcome="not_measurable", n=len(read), reason=reason)
    growth = float(memory.iloc[-1] / memory.iloc[0] - 1)
    states = int(read["state_bytes"].nunique())
    first, last = int(read["length"].iloc[0]), int(read["length"].iloc[-1])
    reason = f"memory grew by {growth:.1%} from {first} to {last} symbols, its state had {states} size(s)"
    passed = growth <= config.max_growth and states == 1
    return Gate(**common, outcome="pass" if passed else "fail", estimate=growth, n=len(read), reason=reason)
