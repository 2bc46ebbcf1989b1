"""What a step minimises, by the kind of the task: one dictionary, one head each.

B windows, H trained horizons, Q quantile levels, h steps of a horizon, C target columns or classes, K columns
of classes. A loss is a mean inside a window and a **sum over windows**, so that micro-batches add up to their
group.

What is trained may be weighted, smoothed, focal or Huber's. What is validated, stops a run early and is
scored is always the plain loss of the task (`finscale.training.scoring`), so that runs compare.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss, mse_loss

from finscale.core.errors import Fault
from finscale.models.contract import ModelOutput
from finscale.training.config import SharedTraining
from finscale.windows.spec import WindowSpec
from finscale.windows.tasks import TaskKind, parse_task

__all__ = ["LOSSES", "PREDICTIONS", "SummedLoss", "answer_of", "build_loss", "class_losses", "pinball"]
__all__ += ["said_of"]

SummedLoss = Callable[[Tensor, Tensor], Tensor]
"""``loss(answer, targets)``: the losses of B windows, added."""

PREDICTIONS: Final[dict[TaskKind, str]] = {
    "binary": "logits",
    "regression": "regression",
    "quantile": "quantiles",
    "forecast": "forecast",
    "classes": "classes",
}
"""The prediction that answers a task of each kind (see `finscale.models.contract.ModelOutput`)."""


def said_of(output: ModelOutput, kind: TaskKind) -> Tensor:
    """Return what a model says where the targets are not known; see `answer_of`.

    Raises
    ------
    Fault
        When the model has another head.
    """
    name, said = PREDICTIONS[kind], output.prediction
    if name not in said:
        raise Fault("the model's head", f"be {name} for a {kind} task", ", ".join(said), "change model.head")
    return said[name][:, 0] if kind == "binary" else said[name]


def answer_of(output: ModelOutput, kind: TaskKind, targets: Num[Tensor, " B *shape"]) -> Tensor:
    """Return what a model says of ``targets``: of a binary task the logit (B,), of quantiles (B, H, Q).

    The logits of K columns of classes lie side by side in (B, sum of C); their targets are (B, K).

    Raises
    ------
    Fault
        When the model has another head, or one of another shape.
    """
    name, answer = PREDICTIONS[kind], said_of(output, kind)
    outer = answer.shape[:-1] if kind in ("quantile", "classes") else answer.shape
    if outer != (targets.shape[:-1] if kind == "classes" else targets.shape):
        got = f"{tuple(answer.shape)} for targets {tuple(targets.shape)}"
        raise Fault(f"the model's {name}", "have one value per target", got, "change model.head")
    return answer


@dataclass(frozen=True, eq=False)
class _Ask:
    """What a loss is built from; weights are None where every target or class counts alike."""

    training: SharedTraining
    spec: WindowSpec
    train_targets: NDArray[Any]
    device: torch.device

    @property
    def weights(self) -> Tensor | None:
        """One weight per target, 1 on average."""
        weights = self.training.loss_weights
        return None if weights is None else self._tensor(np.divide(weights, np.mean(weights)))

    def class_weights(self, n_classes: tuple[int, ...]) -> list[Tensor | None]:
        """One weight per class, for each column of classes."""
        weights = self.training.class_weights
        if weights is None:
            return [None] * len(n_classes)
        if weights == "balanced":
            columns = self.train_targets.reshape(-1, len(n_classes)).astype(np.int64).T
            pairs = zip(columns, n_classes, strict=True)
            return [self._tensor(_balanced(np.bincount(codes, minlength=n))) for codes, n in pairs]
        parts = np.split(np.array(weights), np.cumsum(n_classes)[:-1])
        return [self._tensor(part) for part in parts]

    def _tensor(self, values: NDArray[np.float64]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)


def _balanced(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Inverse frequencies, 1 on average over the windows that were counted; 0 for a class that none has."""
    present = counts > 0
    inverse = counts.sum() / (present.sum() * np.maximum(counts, 1))
    return np.where(present, inverse, 0.0)


def build_loss(
    training: SharedTraining, spec: WindowSpec, *, train_targets: NDArray[Any], device: torch.device
) -> SummedLoss:
    """Return the loss that is trained on the task that windows were built for.

    Parameters
    ----------
    training : SharedTraining
        Its options of the loss; `finscale.training.loss_options.loss_faults` has found none wrong.
    spec : WindowSpec
    train_targets : array (n, ...)
        Of the training windows, whose frequencies ``class_weights="balanced"`` evens out.
    device : torch.device
    """
    return LOSSES[parse_task(spec.task).kind](_Ask(training, spec, train_targets, device))


def class_losses(
    logits: Float[Tensor, "B C"],
    y: Int[Tensor, " B"],
    *,
    weights: Float[Tensor, " C"] | None = None,
    smoothing: float = 0.0,
    gamma: float | None = None,
) -> Float[Tensor, " B"]:
    """Return the losses of B questions about C classes.

    Parameters
    ----------
    logits, y : Tensor
        Scores of the classes, and the class that was true.
    weights : Tensor, optional
        Of the true class.
    smoothing : float
        Share of the target spread evenly over all classes (Szegedy et al. 2016, section 7).
    gamma : float, optional
        Of the factor (1 - p)^gamma, p the probability of the true class: the focal loss (Lin et al. 2017,
        equation 5), with ``weights`` in the place of its alpha.
    """
    log_p = logits.log_softmax(dim=-1)
    log_p_y = log_p.gather(-1, y[:, None])[:, 0]
    losses = -log_p_y
    if smoothing:
        losses = (1 - smoothing) * losses - smoothing * log_p.mean(dim=-1)
    if gamma is not None:
        # At p = 1 a power below one has no finite slope; the clamp cuts it off, and the loss is 0 anyway.
        losses = losses * (-torch.expm1(log_p_y)).clamp_min(torch.finfo(log_p.dtype).tiny) ** gamma
    return losses if weights is None else losses * weights.to(losses.dtype)[y]


def pinball(
    q: Float[Tensor, "*targets Q"], y: Float[Tensor, "*targets"], levels: Float[Tensor, " Q"]
) -> Float[Tensor, "*targets Q"]:
    """Return max(tau e, (tau - 1) e), e = y - q, of every quantile; no factor 2.

    Koenker and Bassett (1978).
    """
    errors = y.unsqueeze(-1) - q
    return torch.maximum(levels * errors, (levels - 1) * errors)


def _options(training: SharedTraining) -> dict[str, Any]:
    return {"smoothing": training.label_smoothing, "gamma": training.focal_gamma}


def _yes_or_no(ask: _Ask) -> SummedLoss:
    (weights,), options = ask.class_weights((2,)), _options(ask.training)
    if weights is None and not any(options.values()):
        return lambda logits, y: binary_cross_entropy_with_logits(logits, y, reduction="sum")

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        of_two = torch.stack((torch.zeros_like(logits), logits), dim=-1)
        return class_losses(of_two, y.long(), weights=weights, **options).sum()

    return loss


def _labels(ask: _Ask) -> SummedLoss:
    n_classes, options = ask.spec.n_classes, _options(ask.training)
    of_classes = ask.class_weights(n_classes)
    alike = torch.ones(len(n_classes), device=ask.device)
    shares = (alike if ask.weights is None else ask.weights) / len(n_classes)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        columns = zip(logits.split(n_classes, dim=-1), y.unbind(dim=-1), of_classes, strict=True)
        sums = [class_losses(said, true, weights=w, **options).sum() for said, true, w in columns]
        return torch.stack(sums) @ shares.to(sums[0].dtype)

    return loss


def _errors(ask: _Ask) -> SummedLoss:
    delta, weights = ask.training.huber_delta, ask.weights
    pointwise = mse_loss if delta is None else partial(huber_loss, delta=delta)

    def loss(f: Tensor, y: Tensor) -> Tensor:
        n_in_a_window = y.numel() // len(y)
        if weights is None:
            return pointwise(f, y, reduction="sum") / n_in_a_window
        return (pointwise(f, y, reduction="none") * weights.to(y.dtype)).sum() / n_in_a_window

    return loss


def _mean_pinball(ask: _Ask) -> SummedLoss:
    levels, weights = torch.tensor(ask.spec.quantile_levels, device=ask.device), ask.weights

    def loss(q: Tensor, y: Tensor) -> Tensor:
        by_horizon = pinball(q, y, levels.to(y.dtype))
        if weights is not None:
            by_horizon = by_horizon * weights.to(y.dtype)[:, None]
        return by_horizon.mean(dim=(1, 2)).sum()

    return loss


LOSSES: Final[dict[TaskKind, Callable[[_Ask], SummedLoss]]] = {
    "binary": _yes_or_no,
    "regression": _errors,
    "quantile": _mean_pinball,
    "forecast": _errors,
    "classes": _labels,
}
"""By kind: cross-entropy, squared or Huber error, pinball over horizons and levels, mean cross-entropy."""
