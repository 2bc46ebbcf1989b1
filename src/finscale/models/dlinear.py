"""Predict from the moving average of a window and from what remains, each by one linear map (DLinear).

B batch, T context_length, F features, C channels forecast, H horizon, Y numbers predicted.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from finscale.models.contract import Batch, ModelOutput, State, only_values
from finscale.models.dlinear_config import DLinearConfig
from finscale.models.head_config import ForecastHead, head_width
from finscale.models.layers.decomposition import moving_average
from finscale.models.layers.heads import as_prediction, channel_map, head_map

__all__ = ["DLinear", "DLinearConfig"]


class DLinear(nn.Module):
    """The linear baseline of Zeng et al. 2023.

    Parameters
    ----------
    config : DLinearConfig
        Moving average and head.
    n_features, context_length : int
        F and T of the windows it reads.
    n_outputs : int
        C of a logits head.
    """

    def __init__(
        self, config: DLinearConfig, *, n_features: int, context_length: int, n_outputs: int = 1
    ) -> None:
        super().__init__()
        self.config, self.window_shape = config, (context_length, n_features)
        head_width(config.head, n_outputs=n_outputs)
        self.columns: list[int] = []
        if isinstance(config.head, ForecastHead):
            self.columns = list(config.head.columns_of(n_features))
        self.trend, self.remainder = (self._map(n_outputs) for _ in range(2))

    def _map(self, n_outputs: int) -> nn.Module:
        context_length, n_features = self.window_shape
        head = self.config.head
        if isinstance(head, ForecastHead):
            return channel_map(head, d_read=context_length, individual=self.config.individual)
        return head_map(head, d_read=context_length * n_features, n_outputs=n_outputs)

    def forward(self, batch: Batch, state: State | None = None) -> ModelOutput:
        """Return the head's prediction; the embedding is the average and the remainder, side by side.

        Raises
        ------
        Fault
            When the windows have another shape, or carry what this model cannot use.
        """
        values_BTF = only_values(batch, state, window_shape=self.window_shape, family="dlinear")
        if self.columns:
            values_BTF = values_BTF[:, :, self.columns]
        trend_BTF = moving_average(values_BTF, n_bars=self.config.average_bars)
        parts = (trend_BTF, values_BTF - trend_BTF)
        prediction = self._forecast(*parts) if self.columns else self._read_all(*parts)
        return ModelOutput(prediction, embedding=torch.cat(parts, dim=1).flatten(1))

    def _forecast(
        self, trend_BTC: Float[Tensor, "B T C"], rest_BTC: Float[Tensor, "B T C"]
    ) -> dict[str, Tensor]:
        future_BCH = self.trend(trend_BTC.transpose(1, 2)) + self.remainder(rest_BTC.transpose(1, 2))
        return {"forecast": future_BCH.transpose(1, 2)}

    def _read_all(
        self, trend_BTF: Float[Tensor, "B T F"], rest_BTF: Float[Tensor, "B T F"]
    ) -> dict[str, Tensor]:
        numbers_BY = self.trend(trend_BTF.flatten(1)) + self.remainder(rest_BTF.flatten(1))
        return as_prediction(self.config.head, numbers_BY)
