"""Score weights on a split, in one way for the loop and for the record.

n windows of a split, y targets, p forecast probabilities. Answers are scored in double precision.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from finscale.archgrid.memory import predict_memory
from finscale.core.errors import Fault
from finscale.core.files import replacing
from finscale.core.seeding import derive
from finscale.models.config import reads_calendar
from finscale.models.contract import evaluating
from finscale.models.registry import build_model
from finscale.training.config import ExecutionConfig, resolve_device
from finscale.training.distributed import ALONE, Processes
from finscale.training.execution import autocast, executing
from finscale.training.gradients import WindowSource
from finscale.training.losses import answer_of
from finscale.training.monitor import Health, health_of
from finscale.training.result import Flag
from finscale.training.run_spec import RunSpec, check_data, fingerprint, read_run_spec
from finscale.training.scoring import Rows, Scoring, join_rows, scoring_of
from finscale.windows.batches import DeviceWindows
from finscale.windows.data import WindowData
from finscale.windows.origins import origins_frame
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import parse_task
from finscale.windows.view import hide_older, view_windows

__all__ = [
    "EVALUATED_SPLITS",
    "Evaluation",
    "as_double",
    "at_a_time",
    "build_run_model",
    "evaluate_run",
    "load_best",
    "observe",
    "observe_split",
    "placed_chunks",
    "reference_rows",
    "save_best",
]

EVALUATED_SPLITS = ("val_select", "val_score", "test")
_CHUNK, _PHASES = 512, 16
_PASS_BYTES = 2 * 2**30
_BEST, _SPEC = "best.safetensors", "run_spec.json"

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Scores of the best weights of a run.

    Parameters
    ----------
    scores : dict
        By split that has origins: every score of the task's kind (`finscale.training.scoring`), and
        ``base_rate_loss`` (of the reference on the same rows); of a binary task also ``spread`` and
        ``calibration_slope`` (NaN where there is none).
    losses : DataFrame
        One row per origin: date, at, instrument, split, then the columns of the task's kind (binary:
        probability, target, log_loss).
    flags : dict
        By split, see `finscale.training.monitor`.
    rows : dict
        By split, what ``losses`` were made of; of quantiles also that of the horizons that are not scored.
    """

    scores: dict[str, dict[str, float]]
    losses: pd.DataFrame
    flags: dict[str, tuple[Flag, ...]]
    rows: dict[str, Rows]


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


def observe(
    model: nn.Module,
    windows: WindowSource,
    origins: Int[Tensor, " n"],
    *,
    scoring: Scoring,
    execution: ExecutionConfig,
    processes: Processes = ALONE,
) -> Rows | None:
    """Return what the model says at ``origins``, with dropout off; None where that is not a finite number.

    The model's mode is as before afterwards. Processes share the origins out, and all are told all.
    """
    kind = parse_task(scoring.spec.task).kind
    chunks = list(placed_chunks(origins, at_most=at_a_time(model, scoring.spec)))

    def answer(number: int) -> Vector:
        chunk, places = chunks[number]
        return as_double(answer_of(model(windows.gather(chunk)), kind, windows.targets(chunk)))[places]

    with evaluating(model), autocast(execution, origins.device):
        answers = processes.share_out(answer, [len(places) for _, places in chunks])
    said = [scoring.answer(answer) for answer in answers]
    if not all(np.isfinite(part).all() for part in said):
        return None
    targets = [as_double(windows.targets(chunk))[places] for chunk, places in chunks]
    return join_rows([scoring.rows(a, y) for a, y in zip(said, targets, strict=True)])


def observe_split(
    model: nn.Module,
    data: WindowData,
    split: str,
    *,
    device: torch.device,
    execution: ExecutionConfig | None = None,
) -> Rows:
    """Return what the model says of the windows of one split.

    Raises
    ------
    Fault
        When that is not a finite number everywhere.
    """
    origins = torch.from_numpy(data.origins[split]).to(device)
    windows = DeviceWindows(data, device, calendar=reads_calendar(getattr(model, "config", None)))
    scoring, execution = scoring_of(data.spec), execution or ExecutionConfig()
    rows = observe(model, windows, origins, scoring=scoring, execution=execution)
    if rows is None:
        raise Fault(f"the model's forecasts of {split}", "be finite numbers", "nan or inf", "train it again")
    return rows


def reference_rows(data: WindowData, split: str, *, windows: WindowSource, device: torch.device) -> Rows:
    """Return what the reference of the task (base rate, climatology) says of the windows of one split."""
    scoring, origins = scoring_of(data.spec), torch.from_numpy(data.origins[split]).to(device)
    parts = [as_double(windows.targets(chunk)) for chunk in origins.split(_CHUNK)]
    return join_rows([scoring.reference_rows(data, y) for y in parts])


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
    data = view_windows(data, spec.view)
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
    n_shown: int | None = None,
) -> Evaluation:
    """Score the best weights of the run in ``directory`` on each split.

    Parameters
    ----------
    n_shown : int or None
        Bars of every context that the model is shown, older ones being masked; None shows all.

    Raises
    ------
    FinscaleError
        When the directory holds no finished run, or the model cannot read masks and there are some.
    """
    execution = execution or ExecutionConfig()
    device = resolve_device(execution)
    asked = [split for split in splits if len(data.origins[split])]
    with executing(execution, device):
        spec, model = load_best(directory, data, device=device)
        data = view_windows(data, spec.view)
        if n_shown is not None:
            data = hide_older(data, n_shown=n_shown)
        found = {
            split: observe_split(model, data, split, device=device, execution=execution) for split in asked
        }
        windows = DeviceWindows(data, device)
        references = {split: reference_rows(data, split, windows=windows, device=device) for split in asked}
    frames = {split: _frame(data, split, rows) for split, rows in found.items()}
    healths = {split: health_of(data, rows) for split, rows in found.items()}
    return Evaluation(
        scores={
            split: _scores(frame, references[split], healths[split], scoring_of(data.spec))
            for split, frame in frames.items()
        },
        losses=pd.concat(frames.values(), ignore_index=True),
        flags={split: health.flags for split, health in healths.items()},
        rows=found,
    )


def _scores(frame: pd.DataFrame, reference: Rows, health: Health, scoring: Scoring) -> dict[str, float]:
    base = float(reference.columns[scoring.measure.column].mean())
    return {**scoring.scores(frame), "base_rate_loss": base, **health.scores()}


def _frame(data: WindowData, split: str, rows: Rows) -> pd.DataFrame:
    return origins_frame(data, split).assign(split=split, **rows.columns)


def at_a_time(model: nn.Module, spec: WindowSpec) -> int:
    """Return how many windows one pass reads: 512, or as many as 2 GiB hold, in multiples of 16."""
    config = getattr(model, "config", None)
    if config is None:
        return _CHUNK
    # a pass without gradients holds less than the entries of all blocks and one block at work
    one = predict_memory(
        config,
        n_features=len(spec.features),
        context_length=spec.context_length,
        micro_batch_size=1,
        activation_checkpointing=True,
    ).activations
    return min(_CHUNK, max(_PHASES, _PASS_BYTES // max(one, 1) // _PHASES * _PHASES))


def placed_chunks(origins: Int[Tensor, " n"], *, at_most: int) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    """Yield origins to run at a time, and the places among them of those that were asked for.

    An origin's place is its row number modulo 16; places between are filled with other origins asked for. The
    kernels of a CPU add up numbers in an order that depends on where a row begins in memory, and on whether
    it is left over at the end of a matrix: so placed, what is said of a window is bit for bit the same
    whichever windows stand beside it.
    """
    blocks, block_of = torch.unique_consecutive(origins // _PHASES, return_inverse=True)
    first = torch.searchsorted(block_of, torch.arange(len(blocks), device=origins.device))
    filled, places = origins[first].repeat_interleave(_PHASES), block_of * _PHASES + origins % _PHASES
    filled[places] = origins
    for begin in range(0, len(filled), at_most):
        inside = places[(places >= begin) & (places < begin + at_most)]
        yield filled[begin : begin + at_most], (inside - begin).cpu().numpy()


def as_double(values: Tensor) -> Vector:
    """Copy to the host in double precision, by way of float32: an autocast answer is bfloat16."""
    return values.float().cpu().numpy().astype(np.float64)


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
