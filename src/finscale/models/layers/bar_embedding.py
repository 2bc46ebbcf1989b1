"""Turn a bar of real-valued and categorical columns into a token.

B batch, T tokens, F real-valued columns, K categorical columns, D width of a token.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from finscale.core.errors import Fault

__all__ = ["BarEmbedding"]


class BarEmbedding(nn.Module):
    """Columns side by side: an embedding of each categorical one, a linear map of all real-valued ones.

    Parameters
    ----------
    n_features, d_real : int
        F, and the width of their linear map; both 0 where no column is real-valued.
    categories, d_categories : sequence of int
        Number of values and width of each categorical column.
    d_joint : int or None
        Width of a linear map of all columns; None leaves them side by side.
    """

    def __init__(
        self,
        *,
        n_features: int,
        d_real: int,
        categories: Sequence[int] = (),
        d_categories: Sequence[int] = (),
        d_joint: int | None = None,
    ) -> None:
        super().__init__()
        if bool(n_features) != bool(d_real):
            got = f"n_features={n_features}, width left for them {d_real}"
            remedy = "give initial_embedding_dim exactly the room that the columns need"
            raise Fault("initial_embedding_dim", "leave room for real-valued columns, if any", got, remedy)
        columns = zip(categories, d_categories, strict=True)
        self.n_features = n_features
        self.categories = nn.ModuleList(nn.Embedding(n_values, width) for n_values, width in columns)
        self.real = nn.Linear(n_features, d_real) if n_features else None
        d_initial = d_real + sum(d_categories)
        self.joint = None if d_joint is None else nn.Linear(d_initial, d_joint)

    def forward(
        self,
        values_BTF: Float[Tensor, "B T F"] | None,
        categories_BTK: Int[Tensor, "B T K"] | None,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Embed every bar; padding is read as zeros, whatever it holds.

        Raises
        ------
        Fault
            When a kind of column is missing, unexpected, or of another number.
        """
        self._check(values_BTF, categories_BTK)
        parts = []
        if categories_BTK is not None:
            codes = categories_BTK if mask is None else categories_BTK.masked_fill(~mask[:, :, None], 0)
            parts = [column(codes[:, :, k]) for k, column in enumerate(self.categories)]
        if self.real is not None and values_BTF is not None:
            real = values_BTF if mask is None else values_BTF.masked_fill(~mask[:, :, None], 0.0)
            parts.append(self.real(real))
        x_BTX = torch.cat(parts, dim=2)
        return x_BTX if self.joint is None else self.joint(x_BTX)

    def _check(self, values: Tensor | None, categories: Tensor | None) -> None:
        wanted = {"values": self.n_features, "categories": len(self.categories)}
        for (name, n_columns), given in zip(wanted.items(), (values, categories), strict=True):
            n_given = 0 if given is None else given.shape[2]
            if n_given != n_columns:
                raise Fault(f"batch.{name}", f"have {n_columns} columns", n_given)
