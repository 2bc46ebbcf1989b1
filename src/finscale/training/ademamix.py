"""AdEMAMix: Adam whose step also follows a slow average of the gradient (Pagliardini et al. 2024).

g gradient, m fast and n slow average of g, v average of its square, t steps made, the one under way included.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["AdEMAMix", "slow_beta_at", "slow_weight_at"]


class AdEMAMix(Optimizer):
    """``w -= lr ((m / (1 - beta1^t) + alpha n) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay w)``.

    Parameters
    ----------
    params : iterable
        Parameters, or groups of them.
    lr : float
        Learning rate.
    betas : tuple of float
        Decays of m and of v, and the one that n ends at.
    alpha : float
        Weight that n ends at; n is not corrected for its start at zero.
    warmup_steps : int
        Steps over which the weight rises from 0 and the slow decay from the fast one; the paper takes the
        whole run.
    eps, weight_decay : float
        As in AdamW; the decay is decoupled.

    Notes
    -----
    Algorithm 1 of the paper. Every tensor of the state lies on its parameter's device but ``step``, which
    stays on the host.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 5.0,
        warmup_steps: int,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        numbers = {"lr": lr, "betas": betas, "alpha": alpha, "warmup_steps": warmup_steps, "eps": eps}
        super().__init__(params, {**numbers, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make one step with the gradients at hand; a parameter without one stays."""
        assert closure is None, "the loss is computed outside"
        for group in self.param_groups:
            moving = [weights for weights in group["params"] if weights.grad is not None]
            if moving:
                self._move(moving, group)

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        states = [self._state_of(tensor) for tensor in weights]
        torch._foreach_add_([state["step"] for state in states], 1.0)
        steps = [int(state["step"]) for state in states]
        fast, slow, squares = (
            [state[name] for state in states] for name in ("exp_avg", "exp_avg_slow", "exp_avg_sq")
        )
        self._average([tensor.grad for tensor in weights], fast, slow, squares, steps, group)
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        direction = _direction(fast, slow, steps, group)
        torch._foreach_addcdiv_(weights, direction, _spread(squares, steps, group), -group["lr"])

    def _state_of(self, weights: Tensor) -> dict[str, Tensor]:
        state = self.state[weights]
        if not state:
            state["step"] = torch.tensor(0.0)
            for name in ("exp_avg", "exp_avg_slow", "exp_avg_sq"):
                state[name] = torch.zeros_like(weights, memory_format=torch.preserve_format)
        return state

    @staticmethod
    def _average(
        gradients: list[Any],
        fast: list[Tensor],
        slow: list[Tensor],
        squares: list[Tensor],
        steps: list[int],
        group: dict[str, Any],
    ) -> None:
        beta_1, beta_2, beta_3 = group["betas"]
        slow_betas = [
            slow_beta_at(t, first=beta_1, last=beta_3, warmup_steps=group["warmup_steps"]) for t in steps
        ]
        torch._foreach_lerp_(fast, gradients, 1 - beta_1)
        torch._foreach_lerp_(slow, gradients, [1 - beta for beta in slow_betas])
        torch._foreach_mul_(squares, beta_2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta_2)


def _direction(
    fast: list[Tensor], slow: list[Tensor], steps: list[int], group: dict[str, Any]
) -> tuple[Tensor, ...]:
    beta_1, alpha, warmup_steps = group["betas"][0], group["alpha"], group["warmup_steps"]
    direction = torch._foreach_mul(slow, [slow_weight_at(t, alpha, warmup_steps=warmup_steps) for t in steps])
    torch._foreach_add_(direction, torch._foreach_div(fast, [1 - beta_1**t for t in steps]))
    return direction


def _spread(squares: list[Tensor], steps: list[int], group: dict[str, Any]) -> tuple[Tensor, ...]:
    spread = torch._foreach_sqrt(squares)
    torch._foreach_div_(spread, [math.sqrt(1 - group["betas"][1] ** t) for t in steps])
    torch._foreach_add_(spread, group["eps"])
    return spread


def slow_weight_at(step: int, alpha: float, *, warmup_steps: int) -> float:
    """Return the weight of the slow average at ``step``, counted from 1: it rises linearly."""
    return alpha * min(1.0, step / warmup_steps)


def slow_beta_at(step: int, *, first: float, last: float, warmup_steps: int) -> float:
    """Return the decay of the slow average at ``step``, counted from 1: its half-life rises linearly.

    Examples
    --------
    >>> [round(slow_beta_at(t, first=0.9, last=0.9999, warmup_steps=100), 4) for t in (1, 50, 100, 200)]
    [0.9909, 0.9998, 0.9999, 0.9999]
    """
    share = min(1.0, step / warmup_steps)
    return math.exp(-1 / ((1 - share) * _life(first) + share * _life(last)))


def _life(beta: float) -> float:
    """Steps in which an average forgets all but 1/e."""
    return -1 / math.log(beta) if beta else 0.0
