"""Split a series into its moving average and what remains.

B batch, T context, F features.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

__all__ = ["moving_average"]


def moving_average(values_BTF: Float[Tensor, "B T F"], *, n_bars: int) -> Float[Tensor, "B T F"]:
    """Return the mean of the ``n_bars`` bars around each bar; the first and last bar repeat beyond the ends.

    Wu et al. 2021 (Autoformer), section 3.1, with an odd number of bars.
    """
    reach = n_bars // 2
    padded_BFX = functional.pad(values_BTF.transpose(1, 2), (reach, reach), mode="replicate")
    return functional.avg_pool1d(padded_BFX, n_bars, stride=1).transpose(1, 2)
