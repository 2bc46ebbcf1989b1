"""Adam and AdamW, fused, with weight decay on matrices only."""

import torch._dynamo  # noqa: F401  # the first optimizer imports it (1 s): let a preloaded worker have it
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from finscale.training.config import TrainingConfig

__all__ = ["build_optimizer", "decayed_names", "set_learning_rate"]

_OPTIMIZERS: dict[str, type[Adam] | type[AdamW]] = {"adam": Adam, "adamw": AdamW}


def decayed_names(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that decay: weight matrices; no norm, bias, token or position."""
    return frozenset(name for name, weights in model.named_parameters() if _decays(name, weights.ndim))


def _decays(name: str, n_dimensions: int) -> bool:
    return name.rpartition(".")[2] == "weight" and n_dimensions >= 2 and "position" not in name


def build_optimizer(model: nn.Module, training: TrainingConfig) -> Optimizer:
    """Return the fused optimizer of ``model``: its first group decays, its second does not."""
    decayed = decayed_names(model)
    named = list(model.named_parameters())
    groups = [
        {"params": [(n, w) for n, w in named if n in decayed], "weight_decay": training.weight_decay},
        {"params": [(n, w) for n, w in named if n not in decayed], "weight_decay": 0.0},
    ]
    return _OPTIMIZERS[training.optimizer](groups, lr=training.learning_rate, fused=True)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Give every group the rate of the coming step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
