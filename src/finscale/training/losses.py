"""What a step minimises, by the kind of the task: one dictionary, one head each.

B windows, H trained horizons, Q quantile levels, h steps of a horizon, C target columns. A loss is a mean
inside a window and a **sum over windows**, so that micro-batches add up to their group.
"""

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from finscale.core.errors import Fault
from finscale.models.contract import ModelOutput
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import TaskKind, parse_task

__all__ = ["LOSSES", "PREDICTIONS", "SummedLoss", "answer_of", "build_loss", "pinball"]

SummedLoss = Callable[[Tensor, Tensor], Tensor]
"""``loss(answer, targets)``: the losses of B windows, added."""

PREDICTIONS: Final[dict[TaskKind, str]] = {
    "binary": "logits",
    "regression": "regression",
    "quantile": "quantiles",
    "forecast": "forecast",
}
"""The prediction that answers a task of each kind (see `finscale.models.contract.ModelOutput`)."""


def answer_of(output: ModelOutput, kind: TaskKind, targets: Float[Tensor, " B *shape"]) -> Tensor:
    """Return what a model says of ``targets``: of a binary task the logit (B,), of quantiles (B, H, Q).

    Raises
    ------
    Fault
        When the model has another head, or one of another shape.
    """
    name, said = PREDICTIONS[kind], output.prediction
    if name not in said:
        raise Fault("the model's head", f"be {name} for a {kind} task", ", ".join(said), "change model.head")
    answer = said[name][:, 0] if kind == "binary" else said[name]
    outer = answer.shape[:-1] if kind == "quantile" else answer.shape
    if outer != targets.shape:
        got = f"{tuple(answer.shape)} for targets {tuple(targets.shape)}"
        raise Fault(f"the model's {name}", "have one value per target", got, "change model.head")
    return answer


def build_loss(spec: WindowSpec, device: torch.device) -> SummedLoss:
    """Return the loss of the task that windows were built for."""
    return LOSSES[parse_task(spec.task).kind](spec, device)


def pinball(
    q: Float[Tensor, "*targets Q"], y: Float[Tensor, "*targets"], levels: Float[Tensor, " Q"]
) -> Float[Tensor, "*targets Q"]:
    """Return max(tau e, (tau - 1) e), e = y - q, of every quantile; no factor 2.

    Koenker and Bassett (1978).
    """
    errors = y.unsqueeze(-1) - q
    return torch.maximum(levels * errors, (levels - 1) * errors)


def _cross_entropy(spec: WindowSpec, device: torch.device) -> SummedLoss:
    return lambda logits, y: binary_cross_entropy_with_logits(logits, y, reduction="sum")


def _squared_error(spec: WindowSpec, device: torch.device) -> SummedLoss:
    def loss(f: Tensor, y: Tensor) -> Tensor:
        n_in_a_window = y.numel() // len(y)
        return mse_loss(f, y, reduction="sum") / n_in_a_window

    return loss


def _mean_pinball(spec: WindowSpec, device: torch.device) -> SummedLoss:
    levels = torch.tensor(spec.quantile_levels, device=device)

    def loss(q: Tensor, y: Tensor) -> Tensor:
        return pinball(q, y, levels.to(y.dtype)).mean(dim=(1, 2)).sum()

    return loss


LOSSES: Final[dict[TaskKind, Callable[[WindowSpec, torch.device], SummedLoss]]] = {
    "binary": _cross_entropy,
    "regression": _squared_error,
    "quantile": _mean_pinball,
    "forecast": _squared_error,
}
"""By kind: binary cross-entropy, squared error, pinball over horizons and levels, squared error."""
