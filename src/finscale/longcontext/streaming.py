"""Let a decoder read a sequence of any length in chunks, and measure what that costs.

B sequences, n tokens of a chunk.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Self

import psutil
import torch
from jaxtyping import Int
from torch import Tensor

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.models.contract import Batch, ModelOutput, evaluating
from finscale.models.transformer import Transformer
from finscale.training.memory import peak_memory_bytes, reset_peak_memory

__all__ = ["StreamRow", "measure_stream", "stream"]


class StreamRow(Record):
    """What it took to read ``length`` symbols: one row of ``system.csv``.

    Parameters
    ----------
    mode : str
        Of the model, as a table names it.
    device : str
        ``cpu``, ``cuda`` or ``mps``.
    length, chunk_length : int
        Symbols read, and how many in one call.
    state_bytes : int
        What the model carries after the last of them: cache, convolution and attractor, exactly.
    rss_bytes : int or None
        Resident memory of the process then; of one length only in a process of its own.
    peak_bytes : int or None
        Largest memory of tensors on CUDA, else of the process, since it began.
    cpu_s, wall_s : float or None
        Processor time of all threads, and time passed.
    """

    mode: str
    device: str
    length: int
    chunk_length: int
    state_bytes: int
    rss_bytes: int | None
    peak_bytes: int | None
    cpu_s: float | None
    wall_s: float | None

    @property
    def tokens_per_cpu_s(self) -> float | None:
        """Symbols read per second of processor time."""
        return None if self.cpu_s is None else self.length / self.cpu_s

    @property
    def tokens_per_s(self) -> float | None:
        """Symbols read per second."""
        return None if self.wall_s is None else self.length / self.wall_s

    def logged(self, *, memory: bool, throughput: bool) -> Self:
        """Return the row with what is to be noted of it; the exact ``state_bytes`` always is."""
        noted = {"rss_bytes": memory, "peak_bytes": memory, "cpu_s": throughput, "wall_s": throughput}
        return self.model_copy(update={name: None for name, kept in noted.items() if not kept})


def stream(model: Transformer, chunks: Iterable[Int[Tensor, "B n"]]) -> Iterator[ModelOutput]:
    """Yield what the model says after every chunk of its symbols, in evaluation mode and without gradients.

    The outputs are those of one call over all chunks; each carries the state after it.

    Raises
    ------
    Fault
        When the model cannot carry a state.
    """
    state = model.start()
    for tokens in chunks:
        # not around the loop: whoever asked for the chunks must not find gradients off between two of them
        with evaluating(model):
            output = model(Batch(tokens=tokens), state)
        if output.state is None:
            raise Fault("model", "return the state that it was given", "none", "pass a decoder")
        state = output.state
        yield output


def measure_stream(
    model: Transformer, *, mode: str, length: int, chunk_length: int, seed: int = 0
) -> StreamRow:
    """Read ``length`` random symbols, drawn chunk by chunk, and return what that took.

    A first chunk outside of the measurement fills caches and pools of memory.

    Parameters
    ----------
    model : Transformer
        A decoder over symbols, on the device that is measured.
    mode : str
        Name of the row.
    length, chunk_length : int
        Symbols, and how many in one call.
    seed : int
        Of the symbols.

    Raises
    ------
    FinscaleError
        When a length is not positive, or the model cannot carry a state over symbols.
    """
    raise_faults(_faults(model, length, chunk_length))
    device = next(model.parameters()).device
    for _ in stream(model, _chunks(model, min(length, chunk_length), chunk_length, seed)):
        pass
    reset_peak_memory(device)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for output in stream(model, _chunks(model, length, chunk_length, seed)):
        state = output.state
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    return StreamRow(
        mode=mode,
        device=device.type,
        length=length,
        chunk_length=chunk_length,
        state_bytes=state.n_bytes if state is not None else 0,
        rss_bytes=psutil.Process().memory_info().rss,
        peak_bytes=peak_memory_bytes(device),
        cpu_s=cpu_s,
        wall_s=wall_s,
    )


def _faults(model: Transformer, length: int, chunk_length: int) -> Iterator[Fault]:
    for name, number in {"length": length, "chunk_length": chunk_length}.items():
        if number < 1:
            yield Fault(name, "be at least 1", number)
    if model.config.vocab_size is None:
        yield Fault("model", "be a decoder over symbols", "a model of bars", "train one with vocab_size")


def _chunks(model: Transformer, length: int, chunk_length: int, seed: int) -> Iterator[Tensor]:
    """Yield ``length`` symbols of one sequence; never all at once, which would grow with the length."""
    device, generator = next(model.parameters()).device, torch.Generator().manual_seed(seed)
    n_symbols = model.config.vocab_size or 0
    for first in range(0, length, chunk_length):
        n = min(chunk_length, length - first)
        yield torch.randint(n_symbols, (1, n), generator=generator).to(device)
