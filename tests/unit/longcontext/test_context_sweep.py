"""Contexts kept on a market whose signal lies exactly so many bars back, and on one without any."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.longcontext.context_sentences import context_sentences
from finscale.longcontext.context_sweep import (
    ContextSweepConfig,
    hidden_run,
    lengths_of,
    loss_table,
    plan_contexts,
    score_table,
    shown_bars,
)
from finscale.longcontext.context_verdict import ContextVerdict, context_verdict
from finscale.metrics.classification import log_loss_rows
from finscale.models.config import DLinearConfig, PatchTSTConfig
from finscale.models.registry import build_meta_model
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.loop import never
from finscale.training.run_spec import Provenance, RunSpec, plan_run
from finscale.training.winner import SeedRun, train_seed
from finscale.windows.baselines import baseline_scores
from finscale.windows.data import WindowData
from finscale.windows.experiment import DataConfig, ExperimentConfig
from finscale.windows.measures import measure_of
from finscale.windows.origins import origins_frame
from finscale.windows.spec import WindowSpec
from finscale.windows.standardize import Standardizer
from finscale.windows.view import WindowView

WHOLE, LENGTHS, SIGNAL_AT = 8, (2, 4, 6), 4
CPU, MEASURE = ExecutionConfig(device="cpu"), measure_of("direction")
PATCHED = PatchTSTConfig(d_model=8, n_layers=1, n_heads=2, d_ff=16, patch_length=10, stride=5)
MODEL = PatchTSTConfig(
    d_model=8, n_layers=1, n_heads=2, d_ff=16, patch_length=1, stride=1, pooling="flatten", dropout=0.0
)


def market(*, signal: float, n: int = 2600) -> WindowData:
    """Windows whose label follows the feature at the last bar but ``SIGNAL_AT - 1``, or is a coin."""
    random = np.random.default_rng(5)
    values = random.standard_normal((n, 2)).astype(np.float32)
    p = 1 / (1 + np.exp(-signal * np.roll(values[:, 0], SIGNAL_AT - 1)))
    rows = np.arange(WHOLE - 1, n)
    splits = np.split(rows, [int(share * len(rows)) for share in (0.5, 0.6, 0.8)])
    facts = {"experiment": "tiny", "touch": "high", "horizon": 1, "data_hash": "d", "title": "t"}
    return WindowData(
        values=values,
        targets=(random.random(n) < p).astype(np.float32),
        dates=np.datetime64("2001-01-01", "ns") + np.arange(n) * np.timedelta64(1, "D"),
        origins=dict(zip(("train", "val_select", "val_score", "test"), splits, strict=True)),
        spec=WindowSpec(task="direction", context_length=WHOLE, features=("a", "b"), **facts),
        standardizer=Standardizer(mean=np.zeros(2), std=np.ones(2)),
    )


def spec_of(data: WindowData, model: PatchTSTConfig | DLinearConfig = MODEL, *, seed: int = 1) -> RunSpec:
    training = {"learning_rate": 1e-2, "epochs": 3, "weight_decay": 0.0, "warmup_steps": 4}
    block = DataConfig(task="direction", context_length=data.spec.context_length)
    return plan_run(
        model,
        TrainingConfig(effective_batch_size=64, **training),
        experiment=ExperimentConfig(name="tiny", title="t", data=block),
        cell=Cell.parse("5K", 1),
        n_features=data.n_features,
        batch=split_batch(64, effective_batch_size=64),
        seed=seed,
        provenance=Provenance(data_hash=data.spec.data_hash),
    )


def baselines_of(data: WindowData) -> pd.DataFrame:
    """The base rate, as the dataset pipeline lays its baselines out."""
    frames = []
    for split in ("val_select", "val_score", "test"):
        y = data.targets_at(split).astype(np.float64)
        p = np.full_like(y, data.base_rate)
        columns = {"probability": p, "target": y, "log_loss": log_loss_rows(y, p)}
        place = {"split": split, "baseline": "base_rate", "note": ""}
        frames.append(origins_frame(data, split).assign(**place, **columns))
    return pd.concat(frames, ignore_index=True)


def swept(
    data: WindowData, folder: Path, *, seeds: tuple[int, ...] = (0,)
) -> tuple[ContextVerdict, pd.DataFrame, list[SeedRun]]:
    config = ContextSweepConfig(context_lengths=LENGTHS, seeds=seeds)
    specs = plan_contexts([spec_of(data)], data, config)
    folders = [folder / f"bars_{shown_bars(spec)}" / f"seed_{spec.seed}" for spec in specs]
    trained = [
        train_seed(spec, data, directory=place, execution=CPU, should_stop=never)
        for spec, place in zip(specs, folders, strict=True)
    ]
    runs: dict = {}
    for run in trained:
        runs.setdefault(("trained", shown_bars(run.spec)), []).append(run)
    for n_bars in LENGTHS:
        runs["hidden", n_bars] = [
            hidden_run(run, data, n_shown=n_bars, directory=place, execution=CPU)
            for run, place in zip(trained, folders, strict=True)
            if shown_bars(run.spec) == WHOLE
        ]
    baselines = baselines_of(data)
    verdict = context_verdict(
        loss_table(runs),
        baselines,
        MEASURE,
        cell="5K_h1",
        context_length=WHOLE,
        horizon=1,
        seed=1,
        n_draws=400,
    )
    return verdict, score_table(runs, baseline_scores(baselines), MEASURE, flags=["few_positives"]), trained


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[ContextVerdict, pd.DataFrame, list[SeedRun]]:
    return swept(market(signal=2.0), tmp_path_factory.mktemp("told"))


@pytest.mark.parametrize("split", [0, 1])
def test_the_sweep_finds_how_many_bars_back_the_signal_lies(told: tuple, split: int) -> None:
    found = told[0].splits[split]
    assert (found.answer, found.enough) == ("shorter_is_enough", SIGNAL_AT)
    leads = {row.context_length: row.lead for row in found.of("trained")}
    assert {n_bars: lead.is_positive for n_bars, lead in leads.items()} == {
        2: False,
        4: True,
        6: True,
        8: True,
    }


def test_a_model_misses_the_signal_when_it_is_hidden_and_nothing_when_only_older_bars_are(
    told: tuple,
) -> None:
    gaps = {row.context_length: row.gap for row in told[0].splits[0].of("hidden")}
    assert gaps[2].is_positive
    assert gaps[2].mean > 0.1
    assert all(abs(gaps[n_bars].mean) < 0.05 for n_bars in (4, 6))


def test_what_is_said_names_the_context_that_is_enough_and_what_is_ruled_out(told: tuple) -> None:
    sentences = context_sentences(told[0])
    gap = next(row.gap for row in told[0].splits[0].of("trained") if row.context_length == SIGNAL_AT)
    bound = max(gap.high, 0)
    assert sentences[0].startswith(f"k = {SIGNAL_AT} is not told apart from {WHOLE}")
    assert f"{bound:.4f}"[:5] in sentences[0]
    assert sentences[1].startswith("2 bars are detectably too few: the log loss rises by")


def test_every_context_is_scored_on_the_same_rows_beside_the_baselines_with_its_own_n(told: tuple) -> None:
    _, scores, runs = told
    assert set(scores["kind"]) == {"trained", "hidden"}
    assert scores.groupby("split")["n"].nunique().eq(1).all()
    assert scores.groupby("split")["baseline_base_rate"].nunique().eq(1).all()
    np.testing.assert_allclose(scores["baseline_base_rate"], scores["base_rate_loss"])
    assert all("few_positives" in flags for flags in scores["flags"])
    for run in runs:
        sizes = {"n_features": 2, "context_length": shown_bars(run.spec)}
        counted = sum(w.numel() for w in build_meta_model(run.spec.model, **sizes).parameters())
        own = scores[(scores["kind"] == "trained") & (scores["context_length"] == shown_bars(run.spec))]
        assert set(own["n_params"]) == {counted}
    assert scores.loc[scores["kind"] == "trained", "n_params"].nunique() == 1 + len(LENGTHS)


def test_on_a_market_without_a_signal_there_is_nothing_to_look_back_for(tmp_path: Path) -> None:
    verdict, _, _ = swept(market(signal=0.0), tmp_path)
    assert {split.answer for split in verdict.splits} == {"nothing_to_look_back_for"}
    assert context_sentences(verdict)[0].startswith("With no context kept, from 2 to 8 bars")


def test_a_finished_context_is_not_trained_again(tmp_path: Path) -> None:
    data = market(signal=1.0, n=400)
    spec = plan_contexts([spec_of(data)], data, ContextSweepConfig(context_lengths=(4,), seeds=(3,)))[0]
    asked: list[int] = []
    ask: Callable[[], bool] = lambda: bool(asked.append(1))  # noqa: E731
    runs = [train_seed(spec, data, directory=tmp_path, execution=CPU, should_stop=ask) for _ in range(2)]
    n_steps = runs[0].result.n_steps
    assert len(asked) == n_steps
    assert runs[0].result == runs[1].result


def test_trainings_differ_in_context_seed_and_size_alone() -> None:
    data = market(signal=0.0, n=200)
    base = spec_of(data).model_copy(update={"view": WindowView(features=("b",)), "exact": True})
    specs = plan_contexts([base], data, ContextSweepConfig(context_lengths=(4,), seeds=(3, 5)))
    assert [(shown_bars(spec), spec.seed) for spec in specs] == [(4, 3), (4, 5), (8, 3), (8, 5)]
    for spec in specs:
        assert spec.view is not None
        assert spec.view.features == ("b",)
        same = {"seed", "view", "arch_id", "n_params"}
        assert spec.model_dump(exclude=same) == base.model_dump(exclude=same)


def test_every_fold_is_trained_with_every_context() -> None:
    data = market(signal=0.0, n=200)
    folds = [spec_of(data).model_copy(update={"fold": fold, "seed": s}) for s in (1, 2) for fold in (0, 1)]
    specs = plan_contexts(folds, data, ContextSweepConfig(context_lengths=(4,), seeds=(3,)))
    assert [(shown_bars(spec), spec.fold, spec.seed) for spec in specs] == [
        *((4, 0, 3), (4, 1, 3)),
        *((8, 0, 3), (8, 1, 3)),
    ]


@pytest.mark.parametrize(
    ("patch", "stride", "whole", "expected"),
    [
        (10, 5, 60, (10, 15, 30, 60)),
        (10, 10, 60, (10, 20, 30, 60)),
        (16, 8, 100, (20, 28, 52, 100)),
        (1, 1, 8, (1, 2, 4, 8)),
    ],
)
def test_without_lengths_the_whole_context_is_halved_down_to_a_patch_that_reads_the_newest_bar(
    patch: int, stride: int, whole: int, expected: tuple[int, ...]
) -> None:
    model = PATCHED.model_copy(update={"patch_length": patch, "stride": stride})
    found = lengths_of(ContextSweepConfig(), model, context_length=whole)
    assert found == expected
    assert all((whole - n_bars) % stride == 0 for n_bars in found)


def test_a_model_without_patches_keeps_any_number_of_bars() -> None:
    config = ContextSweepConfig(context_lengths=(7, 3, 1))
    assert lengths_of(config, DLinearConfig(average_bars=3), context_length=12) == (1, 3, 7, 12)


def test_every_faulty_length_is_told_at_once_with_the_way_out() -> None:
    config = ContextSweepConfig(context_lengths=(5, 20, 20, 33, 90))
    with pytest.raises(FinscaleError) as caught:
        lengths_of(config, PATCHED, context_length=60)
    said = str(caught.value)
    assert said.startswith("4 faults:")
    assert "context_sweep.context_lengths must be named once each, got [5, 20, 20, 33, 90]" in said
    assert "must hold one patch of 10 bars, got 5; leave it out" in said
    assert "must be at most the 60 bars of the windows, got 90" in said
    assert "lest the newest bars stay unread, got 33; try 35" in said


def test_a_seed_that_is_named_twice_and_an_unknown_key_are_refused_at_once() -> None:
    with pytest.raises(FinscaleError) as caught:
        ContextSweepConfig.read({"seeds": "1 1", "context_length": "5 6"}, subject="context_sweep")
    said = str(caught.value)
    assert "context_sweep.seeds must be named once each, got [1, 1]" in said
    assert "context_sweep.context_length must be a known key" in said
    assert "did you mean 'context_lengths'?" in said


def test_lengths_are_typed_as_one_string_with_spaces() -> None:
    assert ContextSweepConfig.read({"context_lengths": "10 20"}).context_lengths == (10, 20)
    assert ContextSweepConfig.read({"context_lengths": 10}).context_lengths == (10,)
