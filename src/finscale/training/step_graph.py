"""One optimizer step as a CUDA graph: recorded once, then launched whole.

A step of a small model is hundreds of kernels of a few microseconds each, and Python cannot launch them as
fast as the device ends them. A graph launches all of them at once. The numbers are those of the step itself:
dropout draws from the generator's present seed, and the learning rate is read from a tensor on the device.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["StepGraph"]

_N_WARM_UP = 3
"""Steps before the recording, as torch asks: libraries load, gradients find their places."""


class StepGraph:
    """Replays a step for groups of one size; a group of another size takes the step itself.

    Parameters
    ----------
    step : callable
        Takes origins (G,) on a CUDA device, changes model and optimizer in place, returns its summed loss
        there, and never waits for the device. Its gradients are gone when it returns.
    model, optimizer
        What it changes.
    group_size : int
        G of the groups that are replayed.
    """

    def __init__(
        self,
        step: Callable[[Tensor], Tensor],
        model: nn.Module,
        optimizer: Optimizer,
        *,
        group_size: int,
    ) -> None:
        self._step, self._model, self._optimizer = step, model, optimizer
        self._group_size = group_size
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, origins: Int[Tensor, " G"]) -> Float[Tensor, ""]:
        """Make one step and return its summed loss."""
        if len(origins) != self._group_size:
            return self._step(origins)
        if self._graph is None:
            self._record(origins)
        assert self._graph is not None
        self._origins.copy_(origins)
        self._graph.replay()
        return self._loss_sum.clone()

    def _record(self, origins: Tensor) -> None:
        """Record the step; weights, optimizer and random state are afterwards as before."""
        self._origins, random_state = origins.clone(), torch.cuda.get_rng_state(origins.device)
        before = [(tensor, tensor.clone()) for tensor in self._tensors()]
        stream = torch.cuda.Stream(origins.device)
        stream.wait_stream(torch.cuda.current_stream(origins.device))
        with torch.cuda.stream(stream):
            for _ in range(_N_WARM_UP):
                self._step(self._origins)
        torch.cuda.current_stream(origins.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._loss_sum = self._step(self._origins)
        self._put_back(before)
        torch.cuda.set_rng_state(random_state, origins.device)
        self._graph = graph

    def _tensors(self) -> Iterable[Tensor]:
        yield from self._model.state_dict().values()
        for state in self._optimizer.state.values():
            yield from state.values()

    @torch.no_grad()
    def _put_back(self, before: list[tuple[Tensor, Tensor]]) -> None:
        """Give every tensor its value of before; what the optimizer made meanwhile begins at zero."""
        known = {tensor.data_ptr() for tensor, _ in before}
        for tensor, value in before:
            tensor.copy_(value)
        for tensor in self._tensors():
            if tensor.data_ptr() not in known:
                tensor.zero_()
