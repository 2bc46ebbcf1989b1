"""Train a cell's model anew with each context kept; hide bars from the one that read all. Torch waits.

Origins and rows are those of the whole context T throughout, so that losses pair date by date.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, NonNegativeInt, field_validator

from finscale.core.config import Record
from finscale.core.errors import Fault, raise_faults
from finscale.training.config import ExecutionConfig
from finscale.training.run_spec import RunSpec, plan_run
from finscale.training.winner import SeedRun, date_loss_rows, run_rows
from finscale.windows.data import WindowData
from finscale.windows.measures import Measure
from finscale.windows.view import WindowView

__all__ = [
    "ContextSweepConfig",
    "Kind",
    "hidden_run",
    "lengths_of",
    "loss_table",
    "plan_contexts",
    "score_table",
    "shown_bars",
]

Kind = Literal["trained", "hidden"]
"""``trained`` anew with the context; trained with the whole one, of which older bars are ``hidden``."""

_SUBJECT = "context_sweep.context_lengths"


class ContextSweepConfig(Record):
    """Which contexts are kept, and how often each is trained.

    Parameters
    ----------
    context_lengths : tuple of int or None
        Bars kept, the origin included; the whole context is always among them. None: the whole one and its
        halves, down to one patch (one bar where nothing is patched).
    seeds : tuple of int
        One training of every context length each.
    hidden : bool
        Whether the models of the whole context are also evaluated with older bars masked.
    """

    context_lengths: tuple[int, ...] | None = Field(default=None, min_length=1)
    seeds: tuple[NonNegativeInt, ...] = Field(default=(0, 1, 2), min_length=1)
    hidden: bool = True

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise Fault("context_sweep.seeds", "be named once each", list(seeds))
        return seeds


def lengths_of(config: ContextSweepConfig, model: Any, *, context_length: int) -> tuple[int, ...]:
    """Return the contexts kept, ascending; the last is the whole one.

    Parameters
    ----------
    model : model config
        Of any family; where it cuts patches, they are counted from the oldest bar, so that a context which is
        not the whole one less some strides would leave its newest bars unread.
    context_length : int
        T of the windows.

    Raises
    ------
    FinscaleError
        With every faulty length at once.

    Examples
    --------
    >>> from finscale.models.config import PatchTSTConfig
    >>> model = PatchTSTConfig(d_model=8, n_layers=1, n_heads=2, d_ff=16, patch_length=10, stride=5)
    >>> lengths_of(ContextSweepConfig(), model, context_length=60)
    (10, 15, 30, 60)
    """
    patch = (getattr(model, "patch_length", 1), getattr(model, "stride", 1))
    asked = config.context_lengths
    if asked is None:
        return _halves(context_length, *patch)
    raise_faults(_faults(asked, context_length, *patch))
    return tuple(sorted({*asked, context_length}))


def _halves(whole: int, patch_length: int, stride: int) -> tuple[int, ...]:
    found = {whole, whole - (whole - patch_length) // stride * stride}
    kept = whole // 2
    while kept >= patch_length:
        found.add(whole - (whole - kept) // stride * stride)
        kept //= 2
    return tuple(sorted(found))


def _faults(asked: tuple[int, ...], whole: int, patch_length: int, stride: int) -> Iterator[Fault]:
    if len(set(asked)) < len(asked):
        yield Fault(_SUBJECT, "be named once each", list(asked))
    for kept in dict.fromkeys(asked):
        if kept > whole:
            remedy = f"lengthen them with data.context_length={kept}"
            yield Fault(_SUBJECT, f"be at most the {whole} bars of the windows", kept, remedy)
        elif kept < patch_length:
            rule = "be at least 1 bar" if patch_length == 1 else f"hold one patch of {patch_length} bars"
            yield Fault(_SUBJECT, rule, kept, "leave it out")
        elif (whole - kept) % stride:
            rule = f"be {whole} less a multiple of the stride {stride}, lest the newest bars stay unread"
            nearest = whole - (whole - kept) // stride * stride
            yield Fault(_SUBJECT, rule, kept, f"try {nearest}")


def plan_contexts(specs: Sequence[RunSpec], windows: WindowData, config: ContextSweepConfig) -> list[RunSpec]:
    """Return one training per context kept, seed and fold, alike in everything else.

    Parameters
    ----------
    specs : sequence of RunSpec
        The cell's own trainings; one of every fold is the model that is asked.
    windows : WindowData
        Of the whole context, any fold.

    Raises
    ------
    FinscaleError
        When a length does not fit the windows or the model.
    """
    asked = {spec.fold: spec for spec in reversed(specs)}
    lengths = lengths_of(config, specs[0].model, context_length=windows.spec.context_length)
    return [
        _shortened(asked[fold], windows, n_bars=n_bars, seed=seed)
        for n_bars in lengths
        for seed in config.seeds
        for fold in sorted(asked)
    ]


def _shortened(spec: RunSpec, windows: WindowData, *, n_bars: int, seed: int) -> RunSpec:
    whole = windows.spec.context_length
    features = spec.view.features if spec.view else None
    view = WindowView(features=features, context_length=None if n_bars == whole else n_bars)
    planned = plan_run(
        spec.model,
        spec.training,
        experiment=spec.experiment,
        cell=spec.cell,
        n_features=windows.n_features,
        batch=spec.batch,
        seed=seed,
        fold=spec.fold,
        view=None if view == WindowView() else view,
        provenance=spec.provenance,
    )
    return planned.model_copy(update={"exact": spec.exact})


def shown_bars(spec: RunSpec) -> int:
    """Return how many bars a run reads."""
    whole = spec.experiment.data.context_length
    return (spec.view.context_length if spec.view else None) or whole


def hidden_run(
    run: SeedRun, data: WindowData, *, n_shown: int, directory: Path, execution: ExecutionConfig
) -> SeedRun:
    """Return a finished run as it scores when all but the last ``n_shown`` bars are masked.

    Parameters
    ----------
    data : WindowData
        Of the fold that the run was trained on.
    directory : Path
        Of the run.
    """
    from finscale.training.evaluate import evaluate_run

    return SeedRun(run.spec, run.result, evaluate_run(directory, data, execution=execution, n_shown=n_shown))


def score_table(
    runs: Mapping[tuple[Kind, int], Sequence[SeedRun]],
    baselines: pd.DataFrame,
    measure: Measure,
    *,
    flags: Sequence[str] = (),
) -> pd.DataFrame:
    """Return one row per kind, context length, seed and split.

    Parameters
    ----------
    runs : mapping
        By kind and bars shown: every fold of every seed.
    baselines : DataFrame
        One row per split and baseline (`finscale.windows.baselines.baseline_scores`).
    flags : sequence of str
        Words that belong on every row.

    Returns
    -------
    DataFrame
        kind, context_length, then the columns of `finscale.training.winner.run_rows`, then the loss of each
        baseline on the same rows, as ``baseline_<name>``.
    """
    rows = _joined((place, run_rows(found, flags=flags)) for place, found in runs.items() if found)
    losses = baselines.pivot(index="split", columns="baseline", values=measure.column)
    return rows.join(losses.add_prefix("baseline_"), on="split")


def loss_table(runs: Mapping[tuple[Kind, int], Sequence[SeedRun]]) -> pd.DataFrame:
    """Return the loss of every forecast, one row per kind, context length, seed, fold, split and origin."""
    return _joined((place, date_loss_rows(found)) for place, found in runs.items() if found)


def _joined(parts: Iterable[tuple[tuple[Kind, int], pd.DataFrame]]) -> pd.DataFrame:
    frames = []
    for (kind, n_bars), frame in parts:
        frame.insert(0, "kind", kind)
        frame.insert(1, "context_length", n_bars)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
