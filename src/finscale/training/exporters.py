"""The writers of exports, one per kind: write files into a folder, read them back, compare with the model.

B windows, T context, F features, D embedding.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.models.config import reads_calendar
from finscale.models.contract import Batch
from finscale.models.generate import generate
from finscale.training.answer_table import answer_columns
from finscale.training.answers import dropout_answers
from finscale.training.calibrated import Calibrated
from finscale.training.calibration import Calibration
from finscale.training.config import ExecutionConfig
from finscale.training.generative import load_decoder, save_decoder
from finscale.training.run_spec import RunSpec
from finscale.windows.batches import DeviceWindows
from finscale.windows.data import WindowData
from finscale.windows.origins import rows_frame

__all__ = ["Checked", "Port", "Source", "write_dropout", "write_embedding", "write_generative"]
__all__ += ["write_onnx", "write_torch"]

TOLERANCE: Final = 1e-4
"""Largest difference from the model; relative where its outputs are above 1."""

N_SAMPLES: Final = 50
"""Passes with dropout on."""

_OPSET: Final = 20
_MOST_WINDOWS = 1024
_MOST_INLINE_BYTES = 1_500_000_000
_FIELDS = ("values", "tokens", "categories", "calendar", "mask")

Inputs = dict[str, Tensor]
Arrays = list[NDArray[Any]]


class Port(Record):
    """An input or output of an exported model; ``batch`` stands for any number of windows."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Checked(Record):
    """What was found when an export was read back and run.

    Parameters
    ----------
    inputs, outputs : tuple of Port
        Of the model, in their order; none where no model is written.
    n_windows : int
        Test windows, the newest 1024 at most, that were compared or sampled.
    max_difference : float or None
        Largest absolute difference from the model on them.
    opset : int or None
        Of an ONNX model.
    n_samples, seed : int or None
        Of passes with dropout on.
    """

    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    n_windows: int
    max_difference: float | None = None
    opset: int | None = None
    n_samples: int | None = None
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """A trained model on the CPU, its windows, how many of them are run at a time, and its calibration."""

    model: nn.Module
    data: WindowData
    spec: RunSpec
    batch_size: int
    calibration: Calibration | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """The newest origins of the test."""
        return self.data.origins["test"][-_MOST_WINDOWS:]

    def windows(self) -> DeviceWindows:
        """Return the windows with everything that the model reads."""
        return DeviceWindows(self.data, "cpu", calendar=reads_calendar(self.spec.model))

    def batches(self) -> Iterator[Inputs]:
        """Yield the windows of `rows`, the first one also by itself."""
        windows, rows = self.windows(), torch.from_numpy(self.rows)
        for some in (rows[:1], *rows.split(self.batch_size)):
            yield _fields(windows.gather(some))

    def example(self) -> Inputs:
        """Return two windows: a batch of one would be taken for a constant."""
        rows = torch.from_numpy(self.rows[[0, -1]])
        return _fields(self.windows().gather(rows))


class _Tensors(nn.Module):
    """The model with tensors for inputs and outputs: the fields of a batch in order, outputs by name."""

    def __init__(self, source: Source, *, embedding: bool = False) -> None:
        super().__init__()
        self.model, self.embedding, self.fields = source.model, embedding, tuple(source.example())
        self.calibrated = None if source.calibration is None else Calibrated(source.calibration)

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Return the predictions of the head, calibrated where the run is, or the embedding."""
        output = self.model(Batch(**dict(zip(self.fields, inputs, strict=True))))
        if self.embedding:
            return {"embedding": output.embedding}
        if self.calibrated is None:
            return output.prediction
        return {"quantiles": self.calibrated(output.prediction["quantiles"])}


def write_onnx(folder: Path, source: Source) -> Checked:
    """Write ``model.onnx``, windows to predictions, and run it in onnxruntime."""
    return _write_onnx(folder / "model.onnx", source, _Tensors(source))


def write_embedding(folder: Path, source: Source) -> Checked:
    """Write ``model.onnx``, windows to the vector that the head reads, and run it in onnxruntime."""
    return _write_onnx(folder / "model.onnx", source, _Tensors(source, embedding=True))


def write_torch(folder: Path, source: Source) -> Checked:
    """Write ``model.pt2``, a `torch.export` program whose archive holds no pickle, and run it."""
    module, path = _Tensors(source), folder / "model.pt2"
    program = _traced(module, source)
    program.example_inputs = None  # the one part that torch would pickle
    torch.export.save(program, path)
    loaded = torch.export.load(path).module()

    def run(inputs: Inputs) -> Arrays:
        return [output.numpy() for output in loaded(*inputs.values()).values()]

    return _checked("torch", source, module, run)


def write_dropout(folder: Path, source: Source) -> Checked:
    """Write ``test.parquet``: mean and spread of answers with dropout on, one row per test window."""
    seed, rows = source.spec.seed, source.rows
    mean, spread = dropout_answers(
        source.model,
        source.windows(),
        torch.from_numpy(rows),
        spec=source.data.spec,
        execution=ExecutionConfig(device="cpu"),
        n_samples=N_SAMPLES,
        seed=seed,
    )
    spreads = {f"{name}_spread": each for name, each in answer_columns(spread, source.data.spec).items()}
    table = rows_frame(source.data, rows).assign(**answer_columns(mean, source.data.spec), **spreads)
    table.to_parquet(folder / "test.parquet", index=False)
    return Checked(n_windows=len(rows), n_samples=N_SAMPLES, seed=seed)


def write_generative(folder: Path, source: Source) -> Checked:
    """Write a decoder for `finscale.models.generate`, and have it go on with test windows."""
    spec, n_new = source.data.spec, 8
    (name,) = spec.categories
    vocabulary = spec.vocabularies[name]
    save_decoder(folder, source.model, context_length=spec.context_length, vocabulary=vocabulary)
    loaded, _ = load_decoder(folder)
    windows = source.windows()
    for rows in torch.from_numpy(source.rows).split(source.batch_size):
        tokens = windows.gather(rows).tokens
        assert tokens is not None
        if not torch.equal(generate(loaded, tokens, n_new), generate(source.model, tokens, n_new)):
            raise Fault(
                "training.export generative", "go on as the model does", "other symbols", "leave it out"
            )
    return Checked(n_windows=len(source.rows))


def _fields(batch: Batch) -> Inputs:
    found = {name: getattr(batch, name) for name in _FIELDS}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _traced(module: _Tensors, source: Source) -> torch.export.ExportedProgram:
    """Trace the model for any number of windows, without the paths of the source files it was read from."""
    example, batch = tuple(source.example().values()), torch.export.Dim("batch")
    shapes = {"inputs": tuple({0: batch} for _ in example)}
    program = torch.export.export(module, example, dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _write_onnx(path: Path, source: Source, module: _Tensors) -> Checked:
    import onnxruntime

    n_bytes = sum(weights.nbytes for weights in source.model.parameters())
    opset = _save_onnx(path, source, module, apart=n_bytes > _MOST_INLINE_BYTES)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> Arrays:
        arrays: Arrays = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return arrays

    return _checked(path.parent.name, source, module, run, opset=opset)


def _save_onnx(path: Path, source: Source, module: _Tensors, *, apart: bool) -> int:
    """Write the model, weights ``apart`` from the graph where one file cannot hold them; return its opset."""
    names = _names(source, module)
    with _quiet():
        program = torch.onnx.export(
            _traced(module, source),
            input_names=list(module.fields),
            output_names=names,
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    _keep_names_for_outputs(program.model.graph, names)
    program.save(path, external_data=apart)
    return int(program.model.opset_imports[""])


@contextmanager
def _quiet() -> Iterator[None]:
    """Pass over what torch says of packages we do not use and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _keep_names_for_outputs(graph: Any, names: list[str]) -> None:
    """Rename inner values that are called like an output, as an embedding of symbols is."""
    for value in (value for node in graph for value in node.outputs):
        if value.name in names and value not in graph.outputs:
            value.name = f"inner_{value.name}"


def _names(source: Source, module: _Tensors) -> list[str]:
    with torch.no_grad():
        return list(module(*source.example().values()))


def _checked(
    kind: str, source: Source, module: _Tensors, run: Callable[[Inputs], Arrays], *, opset: int | None = None
) -> Checked:
    """Compare what an export says with what the model says, window by window.

    Raises
    ------
    Fault
        When they differ by more than `TOLERANCE`.
    """
    largest, allowed = 0.0, TOLERANCE
    with torch.no_grad():
        for inputs in source.batches():
            said = module(*inputs.values())
            for own, other in zip(said.values(), run(inputs), strict=True):
                largest = max(largest, float(np.abs(own.numpy() - other).max()))
                allowed = max(allowed, TOLERANCE * float(own.abs().max()))
    if not largest <= allowed:
        raise Fault(
            f"training.export {kind}", f"agree with the model to {allowed:.1e}", largest, "leave it out"
        )
    return Checked(
        inputs=_ports(inputs),
        outputs=_ports(said),
        n_windows=len(source.rows),
        max_difference=largest,
        opset=opset,
    )


def _ports(tensors: Inputs) -> tuple[Port, ...]:
    return tuple(
        Port(name=name, dtype=str(each.dtype).removeprefix("torch."), shape=("batch", *each.shape[1:]))
        for name, each in tensors.items()
    )
