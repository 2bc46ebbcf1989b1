"""What a run costs, and how a budget of operations is best spent.

N parameters, D training tokens, C operations of a training. Kaplan et al. (2020) for the closed form of C;
Hoffmann et al. (2022), equation 4, for the allocation under ``C = 6 N D``:
``N = G (C / 6)**(beta / (alpha + beta))`` with ``G = (alpha A / (beta B))**(1 / (alpha + beta))``.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from finscale.core.config import Record
from finscale.core.errors import Fault
from finscale.scalinglaws.joint import predict_joint

__all__ = ["Allocation", "IsoFlopCurve", "compute_optimal", "isoflop_curve", "training_flops"]

Floats = NDArray[np.float64]
_PER_PARAMETER = 6


class Allocation(Record):
    """The size and the data that make the loss lowest at one cost.

    ``size_exponent`` is the power of C with which N grows; D grows with one minus it.
    """

    flops: float
    n_params: float
    n_tokens: float
    tokens_per_param: float
    loss: float
    size_exponent: float


class IsoFlopCurve(Record):
    """Loss against N at one cost, with D = C / (6 N), and the lowest point of the law."""

    flops: float
    n_params: tuple[float, ...]
    n_tokens: tuple[float, ...]
    loss: tuple[float, ...]
    optimum: Allocation


def training_flops(
    *,
    n_body: int,
    n_head: int,
    n_tokens: int,
    n_sequences: int,
    n_layers: int,
    d_model: int,
    tokens_per_sequence: int,
) -> int:
    """Return ``6 N_body tokens + 6 N_head sequences + 12 L T d tokens``, with full attention.

    Parameters
    ----------
    n_body : int
        Parameters that every token meets (blocks and the map into them).
    n_head : int
        Parameters that a sequence meets once (a pooled head); a head read at every token belongs to the body.
    n_tokens, n_sequences : int
        Seen in training, epochs counted.
    tokens_per_sequence : int
        T.

    Examples
    --------
    >>> training_flops(
    ...     n_body=1000,
    ...     n_head=10,
    ...     n_tokens=100,
    ...     n_sequences=10,
    ...     n_layers=2,
    ...     d_model=8,
    ...     tokens_per_sequence=10,
    ... )
    792600
    """
    products = _PER_PARAMETER * (n_body * n_tokens + n_head * n_sequences)
    return products + 12 * n_layers * tokens_per_sequence * d_model * n_tokens


def compute_optimal(parameters: Mapping[str, float], *, flops: float) -> Allocation:
    """Return the N and D of lowest loss with ``6 N D = flops``.

    Parameters
    ----------
    parameters : mapping
        E, A, alpha, B, beta of a `JointFit`, A and B positive.

    Raises
    ------
    Fault
        When a term of the law is zero: then no finite N is best.
    """
    scale_n, scale_d = parameters["A"], parameters["B"]
    if min(scale_n, scale_d) <= 0:
        raise Fault("A and B", "be positive", f"A={scale_n}, B={scale_d}", "refit with N and D both varied")
    alpha, beta = parameters["alpha"], parameters["beta"]
    share = beta / (alpha + beta)
    ratio = (alpha * scale_n / (beta * scale_d)) ** (1 / (alpha + beta))
    n = ratio * (flops / _PER_PARAMETER) ** share
    d = flops / (_PER_PARAMETER * n)
    loss = float(predict_joint(dict(parameters), n, d))
    return Allocation(
        flops=flops, n_params=n, n_tokens=d, tokens_per_param=d / n, loss=loss, size_exponent=share
    )


def isoflop_curve(parameters: Mapping[str, float], *, flops: float, n_params: ArrayLike) -> IsoFlopCurve:
    """Return the law's loss over sizes ``n_params`` (m,) at one cost."""
    n = np.asarray(n_params, dtype=np.float64)
    d = flops / (_PER_PARAMETER * n)
    return IsoFlopCurve(
        flops=flops,
        n_params=tuple(n.tolist()),
        n_tokens=tuple(d.tolist()),
        loss=tuple(predict_joint(dict(parameters), n, d).tolist()),
        optimum=compute_optimal(parameters, flops=flops),
    )
