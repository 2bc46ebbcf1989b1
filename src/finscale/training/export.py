"""A finished run as files that others can run, each checked against the model it came from.

All lies in ``export/`` of the run's directory; ``export.json`` is written last, of what was executed.
All take standardised windows (``inputs.json`` beside it holds the moments), B of them at a time for any B.

=============  ======================================================================================
``onnx``       ``onnx/model.onnx``: windows to the predictions of the head
``embedding``  ``embedding/model.onnx``: windows to the vector (B, D) that the head reads
``torch``      ``torch/model.pt2``: a `torch.export` program; its archive holds JSON and raw weights
``dropout``    ``dropout/test.parquet``: mean and spread of passes with dropout on; for new bars there is
               `finscale.predict_with_dropout`
``generative`` ``generative/model.safetensors`` and ``model.json``: a decoder of symbols, which
               `finscale.training.generative.load_decoder` reads and `finscale.models.generate` runs
=============  ======================================================================================
"""

import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

import torch

from finscale.core.config import Record
from finscale.core.files import write_json
from finscale.core.hashing import file_hash
from finscale.training.calibration import CALIBRATION, load_calibration
from finscale.training.config import ExecutionConfig
from finscale.training.evaluate import load_best
from finscale.training.execution import executing
from finscale.training.export_config import ExportKind, ExportSettings
from finscale.training.exporters import (
    Checked,
    Source,
    write_dropout,
    write_embedding,
    write_generative,
    write_onnx,
    write_torch,
)
from finscale.training.run_inputs import INPUTS
from finscale.training.run_spec import fingerprint
from finscale.windows.data import WindowData
from finscale.windows.view import view_windows

__all__ = ["MANIFEST", "Export", "ExportManifest", "ExportedFile", "export_run"]

MANIFEST = "export.json"
_FOLDER = "export"


class ExportedFile(Record):
    """One file: its path below ``export/``, size and digest."""

    path: str
    n_bytes: int
    sha256: str


class Export(Record):
    """One export and how it was checked.

    Parameters
    ----------
    kind : str
    files : tuple of ExportedFile
    check : Checked
        What was found when the files were read back and run.
    """

    kind: ExportKind
    files: tuple[ExportedFile, ...]
    check: Checked


class ExportManifest(Record):
    """What was exported of a run.

    Parameters
    ----------
    fingerprint, seed, fold
        Of the run.
    calibrated : bool
        Whether quantiles come out calibrated; samples with dropout never do.
    versions : dict
        Of the packages that wrote and ran the files.
    """

    format: Literal["finscale-export-1"] = "finscale-export-1"
    fingerprint: str
    seed: int
    fold: int
    calibrated: bool = False
    versions: dict[str, str]
    exports: tuple[Export, ...]


def export_run(directory: Path, data: WindowData, settings: ExportSettings) -> ExportManifest:
    """Export the best weights of the run in ``directory`` in every way asked for; earlier exports go.

    Parameters
    ----------
    directory : Path
        Of a finished run, with its ``inputs.json``.
    data : WindowData
        Its windows; exports are checked on those of the test.

    Raises
    ------
    FinscaleError
        When the run cannot be exported in one of these ways, or an export does not agree with torch.
    """
    folder, cpu = directory / _FOLDER, ExecutionConfig(device="cpu")
    if folder.exists():
        shutil.rmtree(folder)
    with executing(cpu, torch.device("cpu")):
        spec, model = load_best(directory, data, device=torch.device("cpu"))
        seen = view_windows(data, spec.view)
        calibration = load_calibration(directory, fingerprint=fingerprint(spec))
        source = Source(model.eval(), seen, spec, settings.inference_batch_size, calibration)
        exports = [_export(kind, folder, source) for kind in settings.export]
    for name in (INPUTS, CALIBRATION) if calibration else (INPUTS,):
        shutil.copyfile(directory / name, folder / name)
    packages = ("torch", "onnx", "onnxscript", "onnxruntime") if _uses_onnx(settings) else ("torch",)
    manifest = ExportManifest(
        fingerprint=fingerprint(spec),
        seed=spec.seed,
        fold=spec.fold,
        calibrated=calibration is not None,
        versions={name: version(name) for name in packages},
        exports=tuple(exports),
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


_WRITERS: Final[Mapping[ExportKind, Callable[[Path, Source], Checked]]] = {
    "generative": write_generative,
    "embedding": write_embedding,
    "onnx": write_onnx,
    "torch": write_torch,
    "dropout": write_dropout,
}


def _export(kind: ExportKind, folder: Path, source: Source) -> Export:
    (folder / kind).mkdir(parents=True)
    check = _WRITERS[kind](folder / kind, source)
    files = sorted(path for path in (folder / kind).iterdir())
    return Export(kind=kind, files=tuple(_described(path, folder) for path in files), check=check)


def _described(path: Path, folder: Path) -> ExportedFile:
    return ExportedFile(
        path=str(path.relative_to(folder)), n_bytes=path.stat().st_size, sha256=file_hash(path)
    )


def _uses_onnx(settings: ExportSettings) -> bool:
    return any(kind in settings.export for kind in ("onnx", "embedding"))
