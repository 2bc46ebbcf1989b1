"""Whether memory and speed stay flat while a decoder reads a million symbols.

Run with ``python benchmarks/bench_streaming.py [system.csv]``: three fresh processes for every length, in
turns, one thread each; the quickest is shown, with the largest memory of the three. Allowed between 64K and
1M symbols: the same bytes of state, 32 MB of resident memory, 15 % of speed. The same model with full
attention, to 16K, shows what a cache costs.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from finscale.longcontext.streaming import StreamRow, measure_stream
from finscale.models.registry import build_model
from finscale.models.transformer import Transformer
from finscale.models.transformer_config import TransformerConfig

SHAPE = {"vocab_size": 80, "d_model": 64, "n_layers": 2, "n_heads": 4, "d_ff": 128}
MODES = {
    "window + attractor": {"window_size": 256, "n_sinks": 4, "attractor": {"keys": "content"}},
    "full attention": {},
}
LENGTHS = {
    "window + attractor": [2**k for k in range(16, 21)],
    "full attention": [2**k for k in range(10, 15)],
}
CHUNK_LENGTH, SEED, N_ROUNDS = 512, 0, 3
ALLOWED_BYTES, ALLOWED_SPREAD = 32 * 2**20, 0.15


def main() -> None:
    asked = [(mode, length) for mode in MODES for length in LENGTHS[mode]]
    rounds = [[in_fresh_process(*one) for one in asked] for _ in range(N_ROUNDS)]
    rows = [quickest(rows) for rows in zip(*rounds, strict=True)]
    for mode in MODES:
        show(mode, [row for row in rows if row.mode == mode])
    judge([row for row in rows if row.mode == "window + attractor"])
    for path in sys.argv[1:]:
        write(Path(path), rows)


def measure(mode: str, length: int) -> StreamRow:
    """Return the row of one mode and length; the weights are those that training starts from."""
    torch.set_num_threads(1)
    config = TransformerConfig.read({**SHAPE, **MODES[mode]})
    model = build_model(config, n_features=0, context_length=0, seed=SEED)
    assert isinstance(model, Transformer)
    return measure_stream(model, mode=mode, length=length, chunk_length=CHUNK_LENGTH, seed=SEED)


def in_fresh_process(mode: str, length: int) -> StreamRow:
    """Return a row whose resident memory is that of its own length alone."""
    command = [sys.executable, __file__, "--one", mode, str(length)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return StreamRow.read(json.loads(told))


def quickest(rows: Sequence[StreamRow]) -> StreamRow:
    """Return the row of the least processor time, with the largest memory of all."""
    largest = {name: max(getattr(row, name) for row in rows) for name in ("rss_bytes", "peak_bytes")}
    return min(rows, key=lambda row: row.cpu_s).model_copy(update=largest)


def show(mode: str, rows: Sequence[StreamRow]) -> None:
    print(f"{mode}, {CHUNK_LENGTH} symbols a call")
    for row in rows:
        print(
            f"{row.length:9,d} symbols: state {row.state_bytes:10,d} bytes, "
            f"resident {row.rss_bytes / 2**20:6.1f} MB, peak {row.peak_bytes / 2**20:6.1f} MB, "
            f"{row.cpu_s:6.2f} CPU-s, {row.tokens_per_cpu_s:8,.0f} symbols per CPU-s"
        )


def judge(rows: Sequence[StreamRow]) -> None:
    """Print what is allowed and what was measured."""
    states, speeds = {row.state_bytes for row in rows}, [row.tokens_per_cpu_s for row in rows]
    grown = max(row.rss_bytes for row in rows) - min(row.rss_bytes for row in rows)
    spread = max(speeds) / min(speeds) - 1
    print(f"bytes of state: {len(states)} value(s), allowed 1: {verdict(len(states) == 1)}")
    print(
        f"resident memory apart: {grown / 2**20:.1f} MB, allowed {ALLOWED_BYTES / 2**20:.0f}: "
        f"{verdict(grown <= ALLOWED_BYTES)}"
    )
    print(
        f"speeds apart: {100 * spread:.1f} %, allowed {100 * ALLOWED_SPREAD:.0f}: "
        f"{verdict(spread <= ALLOWED_SPREAD)}"
    )


def verdict(passed: bool) -> str:
    return "pass" if passed else "FAIL"


def write(path: Path, rows: Sequence[StreamRow]) -> None:
    with path.open("w", newline="") as file:
        columns = [*StreamRow.model_fields, "tokens_per_cpu_s"]
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(
            {**row.model_dump(), "tokens_per_cpu_s": round(row.tokens_per_cpu_s, 1)} for row in rows
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(measure(sys.argv[2], int(sys.argv[3])).model_dump_json())
    else:
        main()
