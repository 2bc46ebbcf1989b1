"""Checkpoints that survive a kill at any moment: safetensors for tensors, JSON for the rest, no pickle.

A checkpoint of step k is ``step_k.safetensors`` and then, as its commit mark, ``step_k.json`` with the size
and the digest of the first. The two newest are kept, so that one good checkpoint is always left.

No random state is saved: the order of an epoch and the dropout of a step are functions of (seed, epoch) and
(seed, step), so a resumed run draws what the uninterrupted one would have drawn.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from pydantic import AwareDatetime
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from finscale.archgrid.batching import BatchConfig
from finscale.core.config import Record
from finscale.core.errors import Fault, FinscaleError
from finscale.core.files import read_json, replacing, write_json
from finscale.core.hashing import file_hash
from finscale.training.distributed import piece_of, whole
from finscale.training.early_stopping import EarlyStopping
from finscale.training.events import CheckpointRejected, Event
from finscale.training.result import EpochRecord

__all__ = [
    "Checkpoints",
    "LossScale",
    "Progress",
    "checkpoint_tensors",
    "clear_checkpoints",
    "load_weights",
    "restore",
]

Tensors = dict[str, Tensor]
_FOLDER = "checkpoints"


class LossScale(Record):
    """Of the gradient scaler: its factor, and the steps since it last changed."""

    scale: float
    growth_tracker: int


class Progress(Record):
    """Where a run stands between two steps.

    Parameters
    ----------
    step, step_in_epoch : int
        Optimizer updates made, in all and in the epoch under way.
    loss_sum : float
        Summed training loss of the epoch under way.
    curve, early_stopping
        Of the epochs that ended.
    learning_rate_max, learning_rate_last : float
        Largest rate used so far, and the last.
    batch : BatchConfig or None
        Largest group executed so far; None before the first.
    loss_scale : LossScale or None
        None unless half-precision gradients are scaled.
    started_at : datetime or None
        When the first session of the run began.
    seconds : float
        Wall time used so far.
    """

    step: int = 0
    step_in_epoch: int = 0
    loss_sum: float = 0.0
    curve: tuple[EpochRecord, ...] = ()
    early_stopping: EarlyStopping = EarlyStopping()
    learning_rate_max: float = 0.0
    learning_rate_last: float = 0.0
    batch: BatchConfig | None = None
    loss_scale: LossScale | None = None
    started_at: AwareDatetime | None = None
    seconds: float = 0.0


class _Manifest(Record):
    format: Literal["finscale-checkpoint-1"] = "finscale-checkpoint-1"
    fingerprint: str
    n_bytes: int
    sha256: str
    progress: Progress


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    directory : Path
        Of the run; checkpoints live in its folder ``checkpoints``.
    fingerprint : str
        Of the run; another one is refused.
    """

    def __init__(self, directory: Path, fingerprint: str) -> None:
        self.folder = directory / _FOLDER
        self.fingerprint = fingerprint
        self._last: str | None = None

    def save(self, progress: Progress, tensors: Tensors) -> Path:
        """Write one checkpoint and drop all but it and the one before; a step already saved is left alone."""
        name = f"step_{progress.step:09d}"
        manifest = self.folder / f"{name}.json"
        if name == self._last:
            return manifest
        with replacing(self.folder / f"{name}.safetensors") as temporary:
            save_file(tensors, temporary)
            n_bytes, digest = temporary.stat().st_size, file_hash(temporary)
        content = _Manifest(fingerprint=self.fingerprint, n_bytes=n_bytes, sha256=digest, progress=progress)
        write_json(manifest, content.model_dump(mode="json"))
        self._drop_all_but({name, self._last})
        self._last = name
        return manifest

    def load(self, on_event: Callable[[Event], None]) -> tuple[Path, Progress, Tensors] | None:
        """Return the newest good checkpoint, or None; report each one that had to be passed over.

        Raises
        ------
        Fault
            When a checkpoint belongs to a run with another fingerprint.
        """
        for path in sorted(self.folder.glob("step_*.json"), reverse=True):
            try:
                manifest = self._manifest(path)
                tensors = _tensors(path.with_suffix(".safetensors"), manifest)
            except _UnusableError as error:
                on_event(CheckpointRejected(path=str(path), reason=str(error)))
                continue
            self._last = path.stem
            return path, manifest.progress, tensors
        return None

    def _manifest(self, path: Path) -> _Manifest:
        try:
            values = read_json(path)
            found = values.get("fingerprint") if isinstance(values, dict) else None
            manifest = _Manifest.read(values if isinstance(values, dict) else {}, subject=path.name)
        except FinscaleError as error:
            raise _UnusableError(str(error)) from None
        if found != self.fingerprint:
            remedy = "train in another directory, or delete this one"
            raise Fault(f"checkpoint {path}", f"have the fingerprint {self.fingerprint}", found, remedy)
        return manifest

    def _drop_all_but(self, names: set[str | None]) -> None:
        for path in self.folder.iterdir():
            if path.stem not in names:
                path.unlink(missing_ok=True)


class _UnusableError(Exception):
    """A checkpoint that is truncated, corrupt or incomplete."""


def clear_checkpoints(directory: Path) -> None:
    """Delete the checkpoints of a run that will not be resumed; best weights and records stay."""
    folder = directory / _FOLDER
    for path in folder.glob("*"):
        path.unlink()
    if folder.exists():
        folder.rmdir()


def checkpoint_tensors(model: nn.Module, optimizer: Optimizer, *, best: Tensors) -> Tensors:
    """Return weights, optimizer state and best weights (none before an epoch ended) by one flat name each.

    Tensors that are cut up among processes are put together, by all of them.
    """
    state = {
        f"{name}/{quantity}": tensor
        for name, weights in model.named_parameters()
        for quantity, tensor in optimizer.state.get(weights, {}).items()
    }
    return {
        **_with_prefix("model", model.state_dict()),
        **_with_prefix("optimizer", state),
        **_with_prefix("best", best),
    }


def restore(model: nn.Module, optimizer: Optimizer, tensors: Tensors) -> Tensors:
    """Put back what `checkpoint_tensors` returned, and return the best weights."""
    load_weights(model, _without_prefix("model", tensors))
    weights = dict(model.named_parameters())
    index = {p: i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    state: dict[int, Tensors] = {}
    for key, tensor in _without_prefix("optimizer", tensors).items():
        name, _, quantity = key.rpartition("/")
        state.setdefault(index[weights[name]], {})[quantity] = piece_of(tensor, weights[name])
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return _without_prefix("best", tensors)


def load_weights(model: nn.Module, weights: Tensors) -> None:
    """Put whole weights into a model, which may be cut up among processes."""
    held = model.state_dict()
    model.load_state_dict({name: piece_of(tensor, held[name]) for name, tensor in weights.items()})


def _with_prefix(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}/{name}": whole(tensor.detach()).contiguous() for name, tensor in tensors.items()}


def _without_prefix(prefix: str, tensors: Tensors) -> Tensors:
    start = f"{prefix}/"
    return {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}


def _tensors(path: Path, manifest: _Manifest) -> Tensors:
    try:
        if path.stat().st_size != manifest.n_bytes or file_hash(path) != manifest.sha256:
            raise _UnusableError(f"{path.name} is truncated or corrupt")
        return {name: torch.clone(tensor) for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise _UnusableError(f"{path.name} cannot be read: {error}") from None
