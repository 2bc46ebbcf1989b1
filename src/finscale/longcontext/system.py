"""Measure what reading costs under every mode of a block: ``system.csv``."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pandas as pd

from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.pretrained_config import SystemConfig
from finscale.longcontext.streaming import StreamRow, measure_stream

__all__ = ["measure_mode", "streams", "system_table"]

_SPEEDS = ("tokens_per_cpu_s", "tokens_per_s")


def ignore(row: StreamRow) -> None:
    """Listen to nothing."""


def streams(config: LongContextConfig, *, on_event: Callable[[StreamRow], None] = ignore) -> list[StreamRow]:
    """Read every length of the block with every mode it names, each in a process of its own.

    Memory of a process never shrinks: in one that has read a longer stream it would be that one's. The rows
    that are returned hold what ``system`` asks for.
    """
    rows, system = [], config.system or SystemConfig()
    for mode in config.streaming.modes if config.streaming else ():
        for length in config.streaming.lengths if config.streaming else ():
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
                row = fresh.submit(measure_mode, config, mode, length).result()
            on_event(row)
            rows.append(row.logged(memory=system.log_memory, throughput=system.log_throughput))
    return rows


def measure_mode(config: LongContextConfig, mode: str, length: int) -> StreamRow:
    """Read one length in this process; a decoder is untrained, which does not move the cost."""
    chunk_length = config.streaming.chunk_length if config.streaming else length
    model: Any
    if config.pretrained is None:
        from finscale.longcontext.train import build_decoder

        model = build_decoder(config, mode=mode, seed=config.seeds[0])
    else:
        from finscale.longcontext.pretrained import load_pretrained

        changes = config.pretrained_model(mode)
        model = load_pretrained(config.pretrained, model=changes, system=config.system)
    return measure_stream(model, mode=mode, length=length, chunk_length=chunk_length)


def system_table(rows: Sequence[StreamRow]) -> pd.DataFrame:
    """Return the rows as a table, with tokens per second; what was not noted is null."""
    columns = [*StreamRow.model_fields, *_SPEEDS]
    read = [{**row.model_dump(), **{name: getattr(row, name) for name in _SPEEDS}} for row in rows]
    table = pd.DataFrame(read, columns=columns)
    missing = [name for name in columns if len(table) and table[name].isna().any()]
    return table.astype(dict.fromkeys(missing, float))
