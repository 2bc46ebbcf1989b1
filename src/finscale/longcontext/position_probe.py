"""What the codes of a block's modes can tell apart, as one tidy table (`finscale.longcontext.diagnostics`).

T positions, D width of a code.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch

from finscale.core.config import Record
from finscale.longcontext.config import LongContextConfig
from finscale.longcontext.diagnostics import (
    Arithmetic,
    collision_cosines,
    phase_errors,
    position_code,
    spectrum,
    star_discrepancy,
)
from finscale.models.layers.positions.phases import spiral_turns
from finscale.models.position_config import AnyPositionConfig, Constant, HybridConfig, PiSpiralConfig

__all__ = ["Measure", "PositionRow", "block_codes", "position_rows", "position_table"]

Measure = Literal["return", "singular_value", "rank", "discrepancy", "phase_error"]

_CODELESS = ("none", "learned", "alibi")
_LEAST_POSITIONS = 512
_OCTAVES, _PER_OCTAVE = 30, 16


class PositionRow(Record):
    """One number about a code.

    Parameters
    ----------
    measure : str
        ``return``: 1 - cosine between the codes of 0 and of offset ``at``, the smallest up to there.
        ``singular_value``: number ``at``, over the largest, of the code of every position up to the longest
        length (at least 512); ``rank``: how many of them there are, ``at`` being D. ``discrepancy``: star
        discrepancy of the first ``at`` phases. ``phase_error``: the largest error in turns at positions from
        ``at`` to its double.
    of : str
        Modes, the constant of the phases, or an arithmetic.
    """

    measure: Measure
    of: str
    at: int
    value: float


def position_table(rows: list[PositionRow]) -> pd.DataFrame:
    """Return the rows as a tidy table."""
    return pd.DataFrame([row.model_dump() for row in rows], columns=list(PositionRow.model_fields))


def position_rows(config: LongContextConfig) -> Iterator[PositionRow]:
    """Yield the numbers of every code of a block of decoders, and those of phases where it has a spiral.

    A checkpoint brings its own width and base: its codes are not known before it is read.
    """
    if config.pretrained is not None:
        return
    longest = max(_LEAST_POSITIONS, *config.evaluation.lengths)
    for modes, (code, width) in block_codes(config).items():
        yield from _returns(modes, code, width=width, longest=longest)
        yield from _spectrum(modes, code, width=width, n_positions=max(longest, width))
    constant = _constant(config)
    if constant is not None:
        yield from _discrepancies(sorted({2**6, *config.evaluation.lengths}))
        yield from _errors(constant)


def block_codes(config: LongContextConfig) -> dict[str, tuple[AnyPositionConfig, int]]:
    """Return the codes of a block with their widths; modes that share one share an entry."""
    codes: dict[tuple[AnyPositionConfig, int], list[str]] = {}
    for mode in config.modes:
        model = config.transformer(mode)
        code, d_head = model.positions, model.d_model // model.n_heads
        if code.kind in _CODELESS or getattr(code, "gate", "") == "distance":
            continue
        added = code.kind == "sinusoidal" or getattr(code, "form", "rotary") == "additive"
        codes.setdefault((code, model.d_model if added else d_head), []).append(mode)
    return {", ".join(modes): code for code, modes in codes.items()}


def _returns(modes: str, code: AnyPositionConfig, *, width: int, longest: int) -> Iterator[PositionRow]:
    """Yield every new record of nearness, and where the last one still stands."""
    apart = 1 - collision_cosines(code, range(1, longest), width=width)
    nearest = np.minimum.accumulate(np.maximum(apart, 0.0))
    is_new = np.r_[True, nearest[1:] < nearest[:-1]]
    is_new[-1] = True
    for offset in np.flatnonzero(is_new):
        yield PositionRow(measure="return", of=modes, at=int(offset) + 1, value=float(nearest[offset]))


def _spectrum(modes: str, code: AnyPositionConfig, *, width: int, n_positions: int) -> Iterator[PositionRow]:
    found = spectrum(position_code(code, range(n_positions), width=width))
    yield PositionRow(measure="rank", of=modes, at=width, value=found.rank)
    for i, value in enumerate(found.singular_values, start=1):
        yield PositionRow(measure="singular_value", of=modes, at=i, value=value)


def _discrepancies(counts: list[int]) -> Iterator[PositionRow]:
    for constant in get_args(Constant):
        turns = spiral_turns(torch.arange(max(counts)), 1, constant=constant, constants="single")[
            :, 0
        ].numpy()
        for n in counts:
            value = star_discrepancy(turns[:n])
            yield PositionRow(measure="discrepancy", of=constant, at=n, value=value)


def _errors(constant: Constant) -> Iterator[PositionRow]:
    """Yield the largest error over some positions, odd ones too, of every octave."""
    for arithmetic in get_args(Arithmetic):
        for octave in range(_OCTAVES):
            first = 2**octave
            positions = sorted({first + i * (first - 1) // (_PER_OCTAVE - 1) for i in range(_PER_OCTAVE)})
            value = float(phase_errors(constant, positions, arithmetic=arithmetic).max())
            yield PositionRow(measure="phase_error", of=arithmetic, at=first, value=value)


def _constant(config: LongContextConfig) -> Constant | None:
    """Return the first constant of the block's spirals that has a value."""
    codes = [config.transformer(mode).positions for mode in config.modes]
    spirals = [code.constant for code in codes if isinstance(code, PiSpiralConfig | HybridConfig)]
    return next((constant for constant in spirals if constant != "prng"), None)
