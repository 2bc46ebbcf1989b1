"""How a language model answers, and what its answers are measured by. No torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from finscale.core.config import Record
from finscale.core.errors import Fault

__all__ = ["GenerationConfig", "Metric"]

Metric = Literal["accuracy", "exact_match", "f1", "rouge", "perplexity"]


class GenerationConfig(Record):
    """The same for every mode of a block.

    Parameters
    ----------
    max_new_tokens : int
        Of one answer.
    do_sample : bool
        Draw every token; else the likeliest one is taken.
    temperature, top_k, top_p
        Of the draw; to be left out where nothing is drawn.
    metrics : tuple of str
        Beside ``accuracy``, RULER's string match, which every row has.
    """

    max_new_tokens: PositiveInt = 64
    do_sample: bool = False
    temperature: Annotated[float, Field(gt=0)] | None = None
    top_k: PositiveInt | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    metrics: tuple[Metric, ...] = ("accuracy",)

    @model_validator(mode="after")
    def _draws_are_asked_for(self) -> Self:
        drawn = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        given = [name for name, value in drawn.items() if value is not None]
        if given and not self.do_sample:
            raise Fault("generation", "set do_sample beside the options of a draw", given, "remove them")
        return self
