"""The objective of the joint law, with its analytic gradient and Hessian, for many weightings at once.

n points, S problems; x = log N and y = log D about their means, z = log L. The law in logarithms is
``f = logsumexp(a - alpha x, b - beta y, e)`` and the objective the *sum* of ``w * huber(f - z)`` (Hoffmann et
al. 2022, appendix D.3). Parameters stand in the order of ``PARAMETERS``. With p the shares of the three terms
and g_k the gradient of the k-th exponent, the gradient of f is J = sum_k p_k g_k and its Hessian
``sum_k p_k g_k g_k' - J J'``, so every entry is a moment of (n, S) arrays against 1, x, y, x**2, xy, y**2.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from finscale.scalinglaws.newton import Surface

__all__ = ["PARAMETERS", "JointProblem"]

Floats = NDArray[np.float64]
PARAMETERS = ("a", "b", "e", "alpha", "beta")
_LOWER = np.tril_indices(5)


@dataclass(frozen=True)
class JointProblem:
    """The points, in centred logarithms.

    Attributes
    ----------
    x, y, z : ndarray, shape (n,)
        log N and log D about ``centre_x`` and ``centre_y``; log L.
    huber_delta : float
        Residuals of log L beyond it count linearly; ``inf`` gives least squares.
    """

    x: Floats
    y: Floats
    z: Floats
    centre_x: float
    centre_y: float
    huber_delta: float

    @classmethod
    def of(cls, n_params: Floats, n_tokens: Floats, loss: Floats, *, huber_delta: float) -> Self:
        """Centre the logarithms of positive, finite points."""
        x, y = np.log(n_params), np.log(n_tokens)
        return cls(x - x.mean(), y - y.mean(), np.log(loss), x.mean(), y.mean(), huber_delta)

    def residuals(self, theta: Floats) -> Floats:
        """Return predicted - observed log L, shape (S, n), at ``theta`` (S, 5)."""
        return self._shares(theta)[0]

    def surface(self, theta: Floats, weights: Floats) -> Surface:
        """Return value, gradient and Hessian at ``theta`` (S, 5) under ``weights`` (S, n)."""
        r, pa, pb, pe = self._shares(theta)
        clipped = np.clip(r, -self.huber_delta, self.huber_delta)
        value = (weights * clipped * (r - 0.5 * clipped)).sum(axis=1)
        pull = weights * clipped
        curvature = weights * (np.abs(r) <= self.huber_delta) - pull
        return Surface(value, self._gradient(pull, pa, pb, pe), self._hessian(pull, curvature, pa, pb, pe),
                       self._scale(pull))  # fmt: skip

    def _shares(self, theta: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        a, b, e, alpha, beta = (column[:, None] for column in theta.T)
        ua, ub = a - alpha * self.x, b - beta * self.y
        top = np.maximum(np.maximum(ua, ub), e)
        ta, tb, te = np.exp(ua - top), np.exp(ub - top), np.exp(e - top)
        total = ta + tb + te
        return top + np.log(total) - self.z, ta / total, tb / total, te / total

    def _gradient(self, pull: Floats, pa: Floats, pb: Floats, pe: Floats) -> Floats:
        by_a, by_b = pull * pa, pull * pb
        columns = by_a.sum(1), by_b.sum(1), (pull * pe).sum(1), -(by_a @ self.x), -(by_b @ self.y)
        return np.stack(columns, axis=1)

    def _scale(self, pull: Floats) -> Floats:
        size = np.abs(pull).sum(axis=1)
        reach = 1.0, 1.0, 1.0, np.abs(self.x).max(), np.abs(self.y).max()
        return size[:, None] * np.array(reach)

    def _hessian(self, pull: Floats, curvature: Floats, pa: Floats, pb: Floats, pe: Floats) -> Floats:
        x, y = self.x, self.y
        ones = np.ones_like(x)
        cross = np.stack([ones, x, y, x * y], axis=1)
        powers_x, powers_y = np.stack([ones, x, x * x], axis=1), np.stack([ones, y, y * y], axis=1)
        ca, cb = curvature * pa, curvature * pb
        aa = (ca * pa + pull * pa) @ powers_x
        bb = (cb * pb + pull * pb) @ powers_y
        ab, ae, be = (ca * pb) @ cross, (ca * pe) @ powers_x[:, :2], (cb * pe) @ powers_y[:, :2]
        ee = (curvature * pe * pe + pull * pe).sum(axis=1)
        entries = (
            aa[:, 0],
            *(ab[:, 0], bb[:, 0]),
            *(ae[:, 0], be[:, 0], ee),
            *(-aa[:, 1], -ab[:, 1], -ae[:, 1], aa[:, 2]),
            *(-ab[:, 2], -bb[:, 1], -be[:, 1], ab[:, 3], bb[:, 2]),
        )
        out = np.empty((len(pull), 5, 5))
        out[:, _LOWER[0], _LOWER[1]] = out[:, _LOWER[1], _LOWER[0]] = np.stack(entries, axis=1)
        return out
