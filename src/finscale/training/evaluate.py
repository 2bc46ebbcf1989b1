"""Score weights on a split, in one way for the loop and for the record.

n windows of a split, y outcomes, p forecast probabilities. Probabilities are formed in double precision.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from scipy.special import expit
from torch import Tensor, nn

from finscale.core.errors import Fault
from finscale.core.files import replacing
from finscale.core.seeding import derive
from finscale.metrics.classification import log_loss, log_loss_rows, scores
from finscale.models.registry import build_model
from finscale.training.config import ExecutionConfig, resolve_device
from finscale.training.execution import autocast, executing
from finscale.training.gradients import WindowSource
from finscale.training.monitor import calibration_slope, flags_of, spread
from finscale.training.result import Flag
from finscale.training.run_spec import RunSpec, check_data, fingerprint, read_run_spec
from finscale.windows.batches import DeviceWindows
from finscale.windows.data import WindowData
from finscale.windows.origins import origins_frame

__all__ = [
    "EVALUATED_SPLITS",
    "Evaluation",
    "build_run_model",
    "evaluate_run",
    "load_best",
    "predict_probabilities",
    "probabilities",
    "save_best",
]

EVALUATED_SPLITS = ("val_select", "val_score", "test")
_CHUNK = 512
_BEST, _SPEC = "best.safetensors", "run_spec.json"

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Scores of the best weights of a run.

    Parameters
    ----------
    scores : dict
        By split: every score of `finscale.metrics.classification.scores`, and ``base_rate_loss`` (of the
        training base rate on the same rows), ``spread`` and ``calibration_slope`` (NaN where there is none).
    losses : DataFrame
        One row per origin: date, at, instrument, split, probability, target, log_loss.
    flags : dict
        By split, see `finscale.training.monitor`.
    """

    scores: dict[str, dict[str, float]]
    losses: pd.DataFrame
    flags: dict[str, tuple[Flag, ...]]


def build_run_model(spec: RunSpec, data: WindowData, device: torch.device) -> nn.Module:
    """Return the model of a run with its first weights.

    Raises
    ------
    Fault
        When the model does not have the parameters the specification counted.
    """
    shape = {"n_features": data.n_features, "context_length": data.spec.context_length}
    model = build_model(spec.model, **shape, seed=derive(spec.seed, "weights"))
    n_params = sum(weights.numel() for weights in model.parameters())
    if n_params != spec.n_params:
        raise Fault("run_spec.n_params", f"equal the built model's {n_params}", spec.n_params)
    return model.to(device)


def probabilities(
    model: nn.Module,
    windows: WindowSource,
    origins: Int[Tensor, " n"],
    *,
    execution: ExecutionConfig,
) -> Vector:
    """Return p (n,) at ``origins``, with dropout off; the model's mode is as before afterwards."""
    with _evaluating(model), autocast(execution, origins.device):
        parts = [
            model(windows.gather(chunk)).prediction["logits"][:, 0].float() for chunk in origins.split(_CHUNK)
        ]
    logits = torch.cat(parts).cpu().numpy().astype(np.float64)
    return expit(logits)


def predict_probabilities(
    model: nn.Module,
    data: WindowData,
    split: str,
    *,
    device: torch.device,
    execution: ExecutionConfig | None = None,
) -> Vector:
    """Return the probabilities (n,) of the windows of one split."""
    origins = torch.from_numpy(data.origins[split]).to(device)
    windows = DeviceWindows(data, device)
    return probabilities(model, windows, origins, execution=execution or ExecutionConfig())


def save_best(directory: Path, weights: dict[str, Tensor], *, fingerprint: str, epoch: int) -> None:
    """Write the best weights of a run, marked with the run they belong to."""
    with replacing(directory / _BEST) as temporary:
        save_file(weights, temporary, metadata={"fingerprint": fingerprint, "epoch": str(epoch)})


def load_best(directory: Path, data: WindowData, *, device: torch.device) -> tuple[RunSpec, nn.Module]:
    """Return a run's specification and its model with the best weights.

    Raises
    ------
    FinscaleError
        When the directory holds no finished epoch, damaged weights, or those of another run.
    """
    spec, path = read_run_spec(directory / _SPEC), directory / _BEST
    check_data(spec, data)
    model = build_run_model(spec, data, device)
    model.load_state_dict(_read_best(path, fingerprint(spec)))
    return spec, model


def evaluate_run(
    directory: Path,
    data: WindowData,
    *,
    execution: ExecutionConfig | None = None,
    splits: Sequence[str] = EVALUATED_SPLITS,
) -> Evaluation:
    """Score the best weights of the run in ``directory`` on each split."""
    execution = execution or ExecutionConfig()
    device = resolve_device(execution)
    with executing(execution, device):
        _, model = load_best(directory, data, device=device)
        forecasts = {
            split: predict_probabilities(model, data, split, device=device, execution=execution)
            for split in splits
        }
    return Evaluation(
        scores={split: _scores(data, split, p) for split, p in forecasts.items()},
        losses=pd.concat([_losses(data, split, p) for split, p in forecasts.items()], ignore_index=True),
        flags={split: _flags(data, split, p) for split, p in forecasts.items()},
    )


def _scores(data: WindowData, split: str, p: Vector) -> dict[str, float]:
    y = data.targets_at(split).astype(np.float64)
    slope = calibration_slope(y, p)
    return {
        **scores(y, p),
        "base_rate_loss": log_loss(y, np.full_like(y, data.base_rate)),
        "spread": spread(p),
        "calibration_slope": float("nan") if slope is None else slope,
    }


def _losses(data: WindowData, split: str, p: Vector) -> pd.DataFrame:
    y = data.targets_at(split).astype(np.float64)
    return origins_frame(data, split).assign(
        split=split, probability=p, target=y, log_loss=log_loss_rows(y, p)
    )


def _flags(data: WindowData, split: str, p: Vector) -> tuple[Flag, ...]:
    y = data.targets_at(split).astype(np.float64)
    return flags_of(y, p, base_rate=data.base_rate, task=data.spec.task)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _read_best(path: Path, expected: str) -> dict[str, Tensor]:
    remedy = "train the run again"
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("fingerprint")
        weights = load_file(path)
    except FileNotFoundError:
        raise Fault(str(path), "exist", "no such file", remedy) from None
    except (OSError, SafetensorError) as error:
        raise Fault(str(path), "be readable weights", str(error), remedy) from None
    if found != expected:
        raise Fault(str(path), f"have the fingerprint {expected} of {_SPEC}", found, remedy)
    return weights
