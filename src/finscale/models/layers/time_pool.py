"""One vector for a whole sequence: the mean of its tokens, weighted by what a learned query asks for.

N sequences, T tokens, D d_model.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["TimePool"]


class TimePool(nn.Module):
    """Additive attention of one learned query: weights ``softmax_t(u tanh(W x_t + b))``.

    Notes
    -----
    Yang et al. 2016, "Hierarchical Attention Networks for Document Classification", equations 5 to 7.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, d_model)
        self.query = nn.Parameter(torch.zeros(d_model))

    def forward(
        self, x_NTD: Float[Tensor, "N T D"], real_NT: Bool[Tensor, "N T"] | None = None
    ) -> Float[Tensor, "N D"]:
        """Pool every sequence; a token that is not real has no weight, unless none is."""
        keys_NTD = self.linear(x_NTD).tanh()
        scores_NT = (keys_NTD @ self.query.to(keys_NTD.dtype)[:, None])[:, :, 0]
        scores_NT = scores_NT.to(torch.promote_types(scores_NT.dtype, torch.float32))
        if real_NT is not None:
            scores_NT = scores_NT.masked_fill(~real_NT, torch.finfo(scores_NT.dtype).min)
        weights_N1T = scores_NT.softmax(dim=1)[:, None]
        return (weights_N1T.to(x_NTD.dtype) @ x_NTD)[:, 0]
