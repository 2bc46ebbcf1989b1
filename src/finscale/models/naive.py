"""Repeat the past: the last value, or the last season.

B batch, T context_length, F features, C channels forecast, H horizon, S season.
"""

import torch
from torch import Tensor, nn

from finscale.core.errors import Fault
from finscale.models.contract import Batch, ModelOutput, State, only_values
from finscale.models.head_config import head_width
from finscale.models.naive_config import NaiveConfig

__all__ = ["Naive", "NaiveConfig"]


class Naive(nn.Module):
    """A forecast without parameters, against which every other is measured.

    Parameters
    ----------
    config : NaiveConfig
        Season, horizon and channels.
    n_features, context_length : int
        F and T of the windows it reads; a season must fit into T.
    n_outputs : int
        Left at 1: a forecast has no classes.
    """

    steps: Tensor

    def __init__(
        self, config: NaiveConfig, *, n_features: int, context_length: int, n_outputs: int = 1
    ) -> None:
        super().__init__()
        head_width(config.head, n_outputs=n_outputs)
        if config.season_bars > context_length:
            got = f"season_bars={config.season_bars}, context_length={context_length}"
            raise Fault("season_bars", "fit into the context", got, "lengthen it or shorten the season")
        self.window_shape, self.season_bars = (context_length, n_features), config.season_bars
        self.columns = list(config.head.columns_of(n_features))
        repeated = torch.arange(config.head.horizon) % config.season_bars
        self.register_buffer("steps", repeated, persistent=False)

    def forward(self, batch: Batch, state: State | None = None) -> ModelOutput:
        """Return ``forecast`` (B, H, C); the embedding is the season that is repeated, flattened.

        Raises
        ------
        Fault
            When the windows have another shape, or carry what this model cannot use.
        """
        values_BTF = only_values(batch, state, window_shape=self.window_shape, family="naive")
        season_BSC = values_BTF[:, -self.season_bars :, self.columns]
        return ModelOutput({"forecast": season_BSC[:, self.steps]}, embedding=season_BSC.flatten(1))
