"""Adam, AdamW and SGD, fused, and AdEMAMix, with weight decay on matrices only."""

from collections.abc import Callable
from typing import Any, Final

import torch
import torch._dynamo  # the first optimizer imports it (1 s): let a preloaded worker have it
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from finscale.training.ademamix import AdEMAMix
from finscale.training.config import TrainingConfig

__all__ = ["CAPTURABLE", "build_optimizer", "decayed_names", "set_learning_rate"]

Groups = list[dict[str, Any]]
Builder = Callable[[Groups, TrainingConfig, int], Optimizer]

CAPTURABLE: Final = ("adam", "adamw")
"""Optimizers whose step a CUDA graph can record."""

_BETAS = (0.9, 0.999)
_SLOW_BETA, _SLOW_WEIGHT = 0.9999, 5.0


def decayed_names(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that decay: weight matrices; no norm, bias, token or position."""
    return frozenset(name for name, weights in model.named_parameters() if _decays(name, weights.ndim))


def _decays(name: str, n_dimensions: int) -> bool:
    return name.rpartition(".")[2] == "weight" and n_dimensions >= 2 and "position" not in name


def build_optimizer(
    model: nn.Module, training: TrainingConfig, *, total_steps: int, capturable: bool = False
) -> Optimizer:
    """Return the optimizer of ``model``: its first group decays, its second does not.

    Parameters
    ----------
    model : nn.Module
    training : TrainingConfig
    total_steps : int
        Length of the whole schedule, over which AdEMAMix warms up.
    capturable : bool
        Keep on the device whatever a CUDA graph of a step reads: counters and learning rates.
    """
    decayed = decayed_names(model)
    named = list(model.named_parameters())
    groups: Groups = [
        {"params": [(n, w) for n, w in named if n in decayed], "weight_decay": training.weight_decay},
        {"params": [(n, w) for n, w in named if n not in decayed], "weight_decay": 0.0},
    ]
    optimizer = _OPTIMIZERS[training.optimizer](groups, training, total_steps)
    if capturable:
        for group in optimizer.param_groups:
            rate = torch.tensor(group["lr"], device=group["params"][0].device)
            group.update(lr=rate, capturable=True)
    return optimizer


def _adam(groups: Groups, training: TrainingConfig, total_steps: int) -> Optimizer:
    return Adam(groups, lr=training.learning_rate, betas=training.betas or _BETAS, fused=True)


def _adamw(groups: Groups, training: TrainingConfig, total_steps: int) -> Optimizer:
    return AdamW(groups, lr=training.learning_rate, betas=training.betas or _BETAS, fused=True)


def _ademamix(groups: Groups, training: TrainingConfig, total_steps: int) -> Optimizer:
    return AdEMAMix(
        groups,
        lr=training.learning_rate,
        betas=(*(training.betas or _BETAS), training.slow_beta or _SLOW_BETA),
        alpha=training.slow_weight or _SLOW_WEIGHT,
        warmup_steps=total_steps,
    )


def _sgd(groups: Groups, training: TrainingConfig, total_steps: int) -> Optimizer:
    momentum, nesterov = training.momentum or 0.0, training.nesterov
    fused = not any(isinstance(weights, DTensor) for group in groups for _, weights in group["params"])
    return SGD(groups, lr=training.learning_rate, momentum=momentum, nesterov=nesterov, fused=fused)


_OPTIMIZERS: Final[dict[str, Builder]] = {"adam": _adam, "adamw": _adamw, "ademamix": _ademamix, "sgd": _sgd}
"""By name; torch has a fused kernel of its own optimizers on every device that a run may use.

Not of SGD for weights that are cut up among processes.
"""


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Give every group the rate of the coming step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate
