"""Let a decoder go on with sequences of symbols, one symbol a call, on its key-value cache.

B sequences, T given symbols, n new ones, C size of the vocabulary.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from finscale.core.errors import Fault, raise_faults
from finscale.models.contract import Batch, evaluating
from finscale.models.head_config import ClassesHead
from finscale.models.transformer import Transformer

__all__ = ["generate"]


def generate(
    model: nn.Module,
    tokens: Int[Tensor, "B T"],
    n_new: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "B n"]:
    """Return the next ``n_new`` symbols of each sequence; dropout is off, the model's mode is as before.

    Parameters
    ----------
    model : Transformer
        A decoder over symbols that predicts the next one, at every token or by a head of one column of
        classes, which is then taken to have been trained one step ahead.
    tokens : Tensor
        Symbols to go on from, whole sequences of one length, on the model's device.
    n_new : int
        Symbols to add.
    temperature : float
        0 takes the likeliest symbol; above 0 a symbol is drawn from softmax(logits / temperature).
    top_k : int or None
        Draw among the k likeliest symbols only.
    generator : torch.Generator or None
        Source of the draws, on the model's device; None takes torch's own.

    Raises
    ------
    FinscaleError
        When the model cannot go on with a sequence, the symbols are none of its vocabulary, or an option
        would have no effect.
    """
    decoder = _decoder_of(model)
    n_symbols = decoder.config.vocab_size or 0
    few = [Fault("n_new", "be at least 1", n_new)] if n_new < 1 else []
    drawn = _draw_faults(n_symbols, temperature, top_k, generator)
    raise_faults([*few, *_token_faults(tokens, n_symbols), *drawn])
    new: list[Tensor] = []
    with evaluating(decoder):
        state, read = decoder.start(), tokens
        while len(new) < n_new:
            output = decoder(Batch(tokens=read), state)
            read, state = _draw(_next(output.prediction), temperature, top_k, generator), output.state
            new.append(read)
    return torch.cat(new, dim=1)


def _decoder_of(model: nn.Module) -> Transformer:
    """Return a model that can go on with symbols."""
    remedy = "train a causal transformer with vocab_size and without another head"
    if not isinstance(model, Transformer) or model.config.vocab_size is None:
        raise Fault("model", "be a transformer over symbols", type(model).__name__, remedy)
    config, next_symbol = model.config, ClassesHead(n_classes=(model.config.vocab_size,))
    if not config.causal:
        raise Fault("model", "be a decoder", "causal=false", remedy)
    if config.head is not None and config.head != next_symbol:
        raise Fault("model.head", "say the next symbol", config.head.kind, remedy)
    return model


def _token_faults(tokens: Tensor, n_symbols: int) -> Iterator[Fault]:
    if tokens.ndim != 2 or not tokens.numel():
        yield Fault("tokens", "be symbols (B, T), at least one a sequence", tuple(tokens.shape))
        return
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= n_symbols:
        yield Fault("tokens", f"be codes below vocab_size={n_symbols}", f"{low} to {high}")


def _draw_faults(
    n_symbols: int, temperature: float, top_k: int | None, generator: torch.Generator | None
) -> Iterator[Fault]:
    if not 0 <= temperature < float("inf"):
        yield Fault("temperature", "be 0 (the likeliest symbol) or above", temperature)
    if top_k is not None and not 1 <= top_k <= n_symbols:
        yield Fault("top_k", f"be from 1 to vocab_size={n_symbols}", top_k)
    for name, option in {"top_k": top_k, "generator": generator}.items():
        if temperature == 0 and option is not None:
            rule = "be left out at temperature=0, where nothing is drawn"
            yield Fault(name, rule, str(option), "remove it")


def _next(prediction: dict[str, Tensor]) -> Float[Tensor, "B C"]:
    if "classes" in prediction:
        return prediction["classes"].float()
    return prediction["next_symbol"][:, -1].float()


def _draw(
    logits: Float[Tensor, "B C"],
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
) -> Int[Tensor, "B 1"]:
    if temperature == 0:
        return logits.argmax(dim=1, keepdim=True)
    likeliest = logits.topk(logits.shape[1] if top_k is None else top_k)
    place = torch.multinomial(torch.softmax(likeliest.values / temperature, dim=1), 1, generator=generator)
    return likeliest.indices.gather(1, place)
