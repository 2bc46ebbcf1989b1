"""Tables of labels, from the user's file to the score: planted rules between labels are learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from finscale.archgrid.batching import split_batch
from finscale.core.budgets import Cell
from finscale.core.errors import FinscaleError
from finscale.datasets.bars import BarsDataset
from finscale.features.compute import compute_features, data_hash
from finscale.features.prepare import prepare_bars
from finscale.models.config import DLinearConfig, PatchTSTConfig, TransformerConfig
from finscale.models.generate import generate
from finscale.training.config import ExecutionConfig, TrainingConfig
from finscale.training.evaluate import evaluate_run, load_best
from finscale.training.heads import head_for
from finscale.training.result import TrainingResult
from finscale.training.run_spec import Provenance, RunSpec, plan_run
from finscale.training.scoring import scoring_of
from finscale.windows.batches import DeviceWindows
from finscale.windows.build import build_windows
from finscale.windows.data import WindowData
from finscale.windows.experiment import DataConfig, ExperimentConfig

Trains = Callable[..., TrainingResult]

CPU = ExecutionConfig(device="cpu")
CONTEXT, SURE, LABELS = 8, 0.9, "abcd"
SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 32}
ENTROPY = -(SURE + 0.1 / 4) * np.log(SURE + 0.1 / 4) - 3 * (0.1 / 4) * np.log(0.1 / 4)
"""Of a symbol that follows the rule nine times of ten, and is any of the four else."""


def following(first: Any, second: Any) -> Any:
    """The planted rule: the next symbol by the two before it."""
    return (second + 2 * first + 1) % 4


def symbol_table(n_sequences: int = 60, length: int = 40) -> pd.DataFrame:
    random, rows = np.random.default_rng(0), []
    for user in range(n_sequences):
        codes = random.integers(0, 4, 2).tolist()
        while len(codes) < length:
            follows = random.random() < SURE
            codes.append(following(*codes[-2:]) if follows else int(random.integers(0, 4)))
        rows += [(f"u{user}", item, LABELS[code]) for item, code in enumerate(codes)]
    return pd.DataFrame(rows, columns=["user", "item", "symbol"])


def mixed_table(n_sequences: int = 50, length: int = 30) -> pd.DataFrame:
    """A price that decides the next mood, a mood that decides the next tide, and a column of no use."""
    random, n = np.random.default_rng(1), n_sequences * length
    price, mood = random.standard_normal(n), np.empty(n, dtype=np.int64)
    mood[0], mood[1:] = 0, np.digitize(price[:-1], [-0.5, 0.5])
    tide = np.concatenate([[0], (mood[:-1] == 1).astype(int)])
    return pd.DataFrame(
        {
            "user": np.repeat(np.arange(n_sequences), length),
            "item": np.tile(np.arange(length), n_sequences),
            "price": price,
            "mood": np.array(["low", "middle", "high"])[mood],
            "tide": tide,
        }
    )


MIXED: dict[str, Any] = {"channels": ("price",), "categories": ("mood", "tide")}


def windows_of(
    table: pd.DataFrame, folder: Path, *, channels: tuple[str, ...], categories: tuple[str, ...], **data: Any
) -> tuple[WindowData, ExperimentConfig]:
    """Read the table as a user would, from its file, and cut it into windows."""
    path = folder / "table.csv"
    table.to_csv(path, index=False)
    columns = {"channels": list(channels), "categories": list(categories)}
    source = {"kind": "file", "path": str(path), "sequence": "user", "position": "item", **columns}
    bars = prepare_bars(BarsDataset(source=source).load(), name="table")
    names, options = list(bars.columns), DataConfig(task="classes", context_length=CONTEXT, **data)
    config = ExperimentConfig(name="labels", title="Planted rules", data=options)
    features = compute_features(bars, names).frame
    hashed = data_hash(bars, names)
    return build_windows(features, bars, experiment=config, horizon=1, data_hash=hashed)[0], config


def plan(model: Any, data: WindowData, config: ExperimentConfig, **training: Any) -> RunSpec:
    chosen = {"learning_rate": 0.01, "epochs": 8, "weight_decay": 0.0, "warmup_steps": 5, "patience": 50}
    return plan_run(
        model,
        TrainingConfig(**{**chosen, "effective_batch_size": 64, **training}),
        experiment=config,
        cell=Cell.parse("5K", 1),
        n_features=data.n_features,
        batch=split_batch(40, effective_batch_size=64),
        seed=1,
        provenance=Provenance(data_hash=data.spec.data_hash),
    )


def context_symbols(data: WindowData, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return data.categories[rows[:, None] + np.arange(1 - CONTEXT, 1), 0]


def test_the_rule_of_two_symbols_is_learned_far_beyond_the_base_rate(
    train_tiny: Trains, tmp_path: Path
) -> None:
    data, config = windows_of(symbol_table(), tmp_path, channels=(), categories=("symbol",))
    assert data.spec.shows_symbols
    model = TransformerConfig(**SIZES, vocab_size=4, head=head_for(data.spec))
    result = train_tiny(plan(model, data, config), data)
    scores = evaluate_run(tmp_path / "run", data, execution=CPU).scores["test"]
    base = scores["base_rate_loss"]
    assert base > 1.3
    assert scores["log_loss"] < 0.4 * base
    assert scores["log_loss"] == pytest.approx(ENTROPY, abs=0.15)
    assert scores["accuracy"] > 0.85
    assert (result.outcome, result.flags, result.spread) == ("complete", (), None)
    _, trained = load_best(tmp_path / "run", data, device=torch.device("cpu"))
    given = torch.from_numpy(context_symbols(data, data.origins["test"])[:1]).long()
    said = torch.cat((given, generate(trained, given, 12)), dim=1)[0].tolist()
    assert all(said[k] == following(*said[k - 2 : k]) for k in range(CONTEXT, CONTEXT + 12))


def test_several_columns_are_read_and_answered_side_by_side(train_tiny: Trains, tmp_path: Path) -> None:
    data, config = windows_of(mixed_table(), tmp_path, **MIXED, target_columns=("tide", "mood"))
    assert (data.spec.features, data.spec.categories) == (("price",), ("mood", "tide"))
    assert (data.spec.n_classes, data.spec.n_labels) == ((2, 3), (3, 2))
    model = TransformerConfig(
        **SIZES,
        categories=data.spec.n_labels,
        feature_embedding_dims=(4, 2),
        initial_embedding_dim=12,
        joint_embedding_dim=16,
        head=head_for(data.spec),
    )
    train_tiny(plan(model, data, config), data)
    evaluation = evaluate_run(tmp_path / "run", data, execution=CPU)
    scores, rows = evaluation.scores["test"], evaluation.losses.query("split == 'test'")
    assert scores["log_loss_tide"] < 0.15
    assert scores["log_loss_mood"] < 0.35
    assert scores["log_loss"] == pytest.approx((scores["log_loss_tide"] + scores["log_loss_mood"]) / 2)
    assert scores["base_rate_loss"] > 0.8
    assert rows["log_loss_mood"].mean() == pytest.approx(scores["log_loss_mood"])


@pytest.mark.parametrize("family", ["patchtst", "independent", "dlinear"])
def test_a_model_of_real_values_answers_labels_where_the_columns_of_labels_are_left_out(
    family: str, train_tiny: Trains, tmp_path: Path
) -> None:
    data, config = windows_of(mixed_table(), tmp_path, **MIXED, target_columns=("mood",))
    head = head_for(data.spec)
    model: Any = DLinearConfig(average_bars=3, head=head)
    if family != "dlinear":
        channels = "mixed" if family == "patchtst" else "independent"
        patches = {"patch_length": 1, "stride": 1, "pooling": "last", "dropout": 0.0}
        model = PatchTSTConfig(**SIZES, **patches, channels=channels, head=head)
    spec = plan(model, data, config)
    with pytest.raises(FinscaleError, match=r"model.categories must be \(3, 2\)"):
        train_tiny(spec, data)
    train_tiny(spec, data.without_categories())
    scores = evaluate_run(tmp_path / "run", data.without_categories(), execution=CPU).scores["test"]
    assert scores["log_loss"] < 0.7 * scores["base_rate_loss"]


def test_the_scores_are_those_of_the_softmax_of_each_column_by_itself(tmp_path: Path) -> None:
    data, _ = windows_of(
        mixed_table(),
        tmp_path,
        channels=("price",),
        categories=("mood", "tide"),
        target_columns=("tide", "mood"),
    )
    y = DeviceWindows(data, "cpu").targets(torch.from_numpy(data.origins["test"])).numpy()
    raw = 3 * np.random.default_rng(0).standard_normal((len(y), 5))
    scoring = scoring_of(data.spec)
    rows = scoring.rows(scoring.answer(raw), y.astype(np.float64))
    expected = [
        -np.take_along_axis(log_softmax(block, axis=1), y[:, k : k + 1], axis=1)[:, 0]
        for k, block in enumerate((raw[:, :2], raw[:, 2:]))
    ]
    np.testing.assert_allclose(rows.columns["log_loss_tide"], expected[0], rtol=1e-9)
    np.testing.assert_allclose(rows.loss, np.mean(expected, axis=0), rtol=1e-9)
    hits = [(block.argmax(axis=1) == y[:, k]) for k, block in enumerate((raw[:, :2], raw[:, 2:]))]
    np.testing.assert_array_equal(rows.columns["accuracy"], np.mean(hits, axis=0))


def test_the_reference_is_the_frequency_of_every_label_in_training(tmp_path: Path) -> None:
    data, _ = windows_of(symbol_table(30), tmp_path, channels=(), categories=("symbol",))
    y = data.targets_at("test").astype(np.float64)
    shares = np.bincount(data.targets_at("train")[:, 0].astype(int)) / len(data.origins["train"])
    rows = scoring_of(data.spec).reference_rows(data, y)
    np.testing.assert_allclose(rows.loss, -np.log(shares[y[:, 0].astype(int)]))
