"""A small synthetic study: known losses, so that what the report says can be checked."""

from typing import Any

import numpy as np
import pandas as pd

from finscale.core.budgets import parse_budget
from finscale.reporting.study import Checklist, Provenance, ReportInput
from finscale.scalinglaws.verdict import scaling_verdict
from finscale.windows.measures import MEASURES

BASE = 0.45
HORIZONS = (1, 5)
BUDGETS = ("20K", "60K", "200K", "600K")
SPLITS = ("val_score", "test")
WINNERS = {"20K": (32, 2, 4, 64), "60K": (64, 2, 4, 64), "200K": (64, 4, 8, 256), "600K": (128, 4, 8, 256)}


STUDIES: dict[str, dict[str, Any]] = {
    "scaling": {"gain": 0.004},
    "no_detectable_scaling": {"gain": 0.0},
    "inverse_scaling": {"gain": -0.004},
    "not_enough_data": {"budgets": ("20K", "200K"), "planned": ("20K_h1", "20K_h5", "60K_h1", "200K_h1")},
}
"""By verdict: a study that gets it."""


def build_study(
    *,
    gain: float = 0.004,
    level: float = 0.004,
    budgets: tuple[str, ...] = BUDGETS,
    horizons: tuple[int, ...] = HORIZONS,
    n_seeds: int = 3,
    n_random: int = 12,
    n_dates: int = 300,
    **changes: Any,
) -> ReportInput:
    """Build a study whose loss is ``level`` below the base rate at 20K, and falls by ``gain`` per decade."""
    rng = np.random.default_rng(7)
    dates = pd.bdate_range("2021-01-04", periods=n_dates)
    date_losses = _date_losses(rng, dates, budgets, horizons, n_seeds=n_seeds, gain=gain, level=level)
    cells = _cells(rng, date_losses, n_random=n_random)
    baselines_by_date = _baselines_by_date(rng, date_losses)
    parts: dict[str, Any] = {
        "title": "S&P 500: a 1 % move within the horizon, daily bars",
        "measure": MEASURES["binary"],
        "verdict": scaling_verdict(cells),
        "test_verdict": scaling_verdict(cells, split="test"),
        "cells": cells,
        "trials": _trials(rng, cells, n_random=n_random),
        "baselines": _baselines(baselines_by_date),
        "date_losses": date_losses,
        "baselines_by_date": baselines_by_date,
        "grid": _grid(budgets),
        "costs": _costs(cells),
        "planned": tuple(f"{budget}_h{horizon}" for budget in budgets for horizon in horizons),
        "provenance": Provenance(commit="8426252", environment="demo", data_hash="3f2a91c0d4e7"),
        "data_card": "SPX (source sp500), 1999-01-04 to 2018-12-31, 5031 sessions; prices: adjusted",
        "checklist": Checklist(
            model="patchtst (patch_length 10)",
            which_n="all parameters, embedding and head included",
            d_definition="training windows; the same for every budget",
            checkpoint="the epoch of lowest loss on val_select",
            objective="binary cross-entropy, unweighted",
            optimiser="AdamW, cosine, effective batch 128",
            deviations=("20 trials per cell instead of 50",),
        ),
        "warnings": (),
        "seed": 42,
        "n_draws": 300,
    }
    return ReportInput(**(parts | changes))


def _date_losses(
    rng: np.random.Generator,
    dates: pd.DatetimeIndex,
    budgets: tuple[str, ...],
    horizons: tuple[int, ...],
    *,
    n_seeds: int,
    gain: float,
    level: float,
) -> pd.DataFrame:
    frames = []
    for horizon in horizons:
        for split in SPLITS:
            base = BASE + 0.02 * horizon + np.abs(rng.normal(0, 0.2, len(dates)))
            for budget in budgets:
                decades = np.log10(parse_budget(budget) / 20e3)
                excess = level + gain * decades + rng.normal(0, 4e-4)
                for seed in range(n_seeds):
                    noise = rng.normal(0, 0.03, len(dates))
                    noise += rng.normal(0, 4e-4) - noise.mean()
                    frames.append(
                        pd.DataFrame(
                            {
                                "budget": budget,
                                "horizon": horizon,
                                "seed": seed,
                                "split": split,
                                "date": dates,
                                "loss": base - excess + noise,
                                "base_rate_loss": base,
                            }
                        )
                    )
    return pd.concat(frames, ignore_index=True)


def _cells(rng: np.random.Generator, date_losses: pd.DataFrame, *, n_random: int) -> pd.DataFrame:
    keys = ["budget", "horizon", "seed", "split"]
    cells = date_losses.groupby(keys, as_index=False)[["loss", "base_rate_loss"]].mean()
    shape = pd.DataFrame(
        [WINNERS.get(budget, (256, 6, 8, 512)) for budget in cells["budget"]],
        columns=["d_model", "n_layers", "n_heads", "d_ff"],
    )
    n_budget = cells["budget"].map(parse_budget)
    return cells.join(shape).assign(
        n_budget=n_budget,
        n_params=(n_budget * 0.97).astype(int) + cells["horizon"],
        arch_id=cells["budget"].map(lambda budget: f"arch-{budget}"),
        excess_loss=cells["base_rate_loss"] - cells["loss"],
        auc=0.6 + rng.uniform(0, 0.05, len(cells)),
        brier=0.2,
        ece=0.02,
        outcome="complete",
        flags=[()] * len(cells),
        n_trials=n_random + 10,
        n_random=n_random,
        n_steps=200,
        effective_batch_size=128,
    )


def _costs(cells: pd.DataFrame) -> pd.DataFrame:
    """An hour for the smallest budget's cells, and then in proportion to N."""
    table = cells[["budget", "n_budget", "horizon"]].drop_duplicates(ignore_index=True)
    hours = table["n_budget"] / table["n_budget"].min()
    return table.assign(seconds=3600.0 * hours, windows=1e6)


def _trials(rng: np.random.Generator, cells: pd.DataFrame, *, n_random: int) -> pd.DataFrame:
    kinds = ["extreme"] * 4 + ["random"] * n_random + ["sampler"] * 3
    rows = []
    for (budget, horizon), group in cells[cells["split"] == "val_score"].groupby(["budget", "horizon"]):
        best = group["loss"].mean() + 0.01
        for number, kind in enumerate(kinds):
            first = group.iloc[0]
            rows.append(
                {
                    "budget": budget,
                    "horizon": horizon,
                    "number": number,
                    "kind": kind,
                    "state": "COMPLETE",
                    "value": best + abs(rng.normal(0, 0.01)) * (1 if kind != "sampler" else 0.3),
                    "base_rate_loss": group["base_rate_loss"].mean() + 0.01,
                    "n_params": int(first["n_params"] * rng.uniform(0.85, 1.15)),
                    **{name: first[name] for name in ("d_model", "n_layers", "n_heads", "d_ff")},
                    "seconds": 4.0,
                }
            )
    trials = pd.DataFrame(rows)
    trials.loc[7, "value"], trials.loc[7, "state"] = np.nan, "FAIL"
    return trials


def _baselines_by_date(rng: np.random.Generator, date_losses: pd.DataFrame) -> pd.DataFrame:
    base = date_losses.groupby(["horizon", "split", "date"], as_index=False)["base_rate_loss"].first()
    base = base.rename(columns={"base_rate_loss": "loss"})
    gains = {"base_rate": 0.0, "realised_volatility": 0.006, "garch": 0.009}
    frames = [
        base.assign(baseline=name, loss=base["loss"] - gain + (gain > 0) * rng.normal(0, 0.02, len(base)))
        for name, gain in gains.items()
    ]
    return pd.concat(frames, ignore_index=True)


def _baselines(by_date: pd.DataFrame) -> pd.DataFrame:
    means = by_date.groupby(["horizon", "split", "baseline"], as_index=False)["loss"].mean()
    base = means[means["baseline"] == "base_rate"].set_index(["horizon", "split"])["loss"]
    reference = [base[key] for key in zip(means["horizon"], means["split"], strict=True)]
    return means.assign(excess_loss=np.array(reference) - means["loss"], auc=0.61)


def _grid(budgets: tuple[str, ...]) -> pd.DataFrame:
    rows = []
    for budget in budgets:
        n = parse_budget(budget)
        for d_model in (16, 32, 64, 128, 256):
            for n_layers in (1, 2, 3, 4, 6, 8, 12):
                for ratio in (1, 2, 4):
                    n_params = n_layers * (4 + 2 * ratio) * d_model**2
                    if abs(n_params / n - 1) < 0.25:
                        rows.append(
                            (budget, f"{d_model}x{n_layers}", d_model, n_layers, n_params, 6.0 * n_params)
                        )
    columns = ["budget", "arch_id", "d_model", "n_layers", "n_params", "flops_training"]
    grid = pd.DataFrame(rows, columns=columns)
    winners = grid.drop_duplicates("budget").index
    return grid.assign(arch_id=grid["arch_id"].mask(grid.index.isin(winners), "arch-" + grid["budget"]))
