"""Say what a context sweep shows, in sentences that follow from its numbers whatever they are. No torch."""

from collections.abc import Callable, Iterator

from finscale.core.citation import show
from finscale.longcontext.context_differences import Difference
from finscale.longcontext.context_verdict import Answer, ContextRow, ContextVerdict, SplitVerdict

__all__ = ["answer_words", "context_sentences"]


def context_sentences(verdict: ContextVerdict) -> tuple[str, ...]:
    """Return the answer on ``val_score``, what hiding bars adds, and the test period as a second look."""
    if not verdict.splits:
        return ("Not measurable: no training ended.",)
    first, *others = verdict.splits
    own = (_best_baseline, _hidden, _one_seed)
    said = [*_TOLD[first.answer](first, verdict), *(part for tell in own for part in tell(first, verdict))]
    looks = [
        f"The test period, as a second look: {sentence[0].lower()}{sentence[1:]}"
        for split in others
        for sentence in list(_TOLD[split.answer](split, verdict))[:1]
    ]
    return (*said, *looks)


def answer_words(split: SplitVerdict) -> str:
    """Return the answer in a few words."""
    if split.answer == "shorter_is_enough":
        return f"{_bars(split.enough or 0)} are enough" if split.enough != 1 else "1 bar is enough"
    return _WORDS[split.answer]


_WORDS: dict[Answer, str] = {
    "nothing_to_look_back_for": "Nothing to look back for was found",
    "whole_context": "The whole context is used",
    "not_measurable": "Not measurable",
}


def _nothing(split: SplitVerdict, verdict: ContextVerdict) -> Iterator[str]:
    rows = split.of("trained")
    kept = f"from {rows[0].context_length} to {_bars(rows[-1].context_length)}"
    reference = verdict.reference.replace("_", " ")
    highs = [row.lead.high for row in rows if row.lead and row.lead.high is not None]
    bound = f"; leads above {_loss(max(highs), verdict)} are ruled out" if highs and max(highs) > 0 else ""
    yield (
        f"With no context kept, {kept}, is the {verdict.words} detectably below that of the {reference}"
        f": nothing to look back for that these dates and seeds could show{bound}."
    )


def _shorter(split: SplitVerdict, verdict: ContextVerdict) -> Iterator[str]:
    rows, whole = split.of("trained"), verdict.context_length
    row = next(row for row in rows if row.context_length == split.enough)
    assert row.gap is not None
    if row.gap.is_negative:
        gain = f"{_loss(-(row.gap.mean or 0), verdict)}{_between(row.gap, sign=-1)}"
        yield f"{_bars(row.context_length)} are detectably better than {whole}, by {gain}."
    else:
        yield f"k = {row.context_length} is not told apart from {whole}{_ruled_out(row.gap, verdict)}."
    yield from _too_few(rows, verdict)
    if row.lead is not None and not row.lead.is_positive:
        reference = verdict.reference.replace("_", " ")
        yield f"With k = {row.context_length} alone a lead over the {reference} is not detectable, though."


def _whole(split: SplitVerdict, verdict: ContextVerdict) -> Iterator[str]:
    yield from _too_few(split.of("trained"), verdict)
    yield (
        f"Whether more than {_bars(verdict.context_length)} would help, this sweep cannot say: "
        "lengthen the windows with data.context_length."
    )


def _unmeasured(split: SplitVerdict, verdict: ContextVerdict) -> Iterator[str]:
    rows = split.of("trained")
    if not any(row.context_length == verdict.context_length for row in rows):
        yield f"Not measurable: no training of the whole context of {_bars(verdict.context_length)} ended."
        return
    found = [row.lead.n_dates for row in rows if row.lead]
    yield f"Not measurable: {min(found)} dates are too few to tell losses apart."


_TOLD: dict[Answer, Callable[[SplitVerdict, ContextVerdict], Iterator[str]]] = {
    "nothing_to_look_back_for": _nothing,
    "shorter_is_enough": _shorter,
    "whole_context": _whole,
    "not_measurable": _unmeasured,
}


def _too_few(rows: tuple[ContextRow, ...], verdict: ContextVerdict) -> Iterator[str]:
    """Name the longest context that is detectably worse than the whole one."""
    worse = [row for row in rows if row.gap is not None and row.gap.is_positive]
    if not worse:
        shortest = rows[0].context_length
        yield f"No context kept is detectably worse than the whole one, down to {_bars(shortest)}."
        return
    gap = worse[-1].gap
    assert gap is not None
    lost = f"{_loss(gap.mean or 0, verdict)}{_between(gap)}"
    yield f"{_bars(worse[-1].context_length)} are detectably too few: the {verdict.words} rises by {lost}."


def _best_baseline(split: SplitVerdict, verdict: ContextVerdict) -> Iterator[str]:
    """Compare the best context with the best baseline, by their means."""
    name, loss = next(iter(split.baselines.items()))
    best = min(split.of("trained"), key=lambda row: row.loss)
    than = "below" if best.loss < loss else "not below"
    yield (
        f"The lowest {verdict.words}, {show(best.loss, 'loss')} with k = {best.context_length}, is {than} "
        f"that of the best baseline on the same rows ({name.replace('_', ' ')}, {show(loss, 'loss')})."
    )


def _hidden(split: SplitVerdict, verdict: ContextVerdict) -> Iterator[str]:
    rows, trained = split.of("hidden"), f"the models trained on {_bars(verdict.context_length)}"
    if not rows or rows[0].gap is None or rows[0].gap.adjusted is None:
        return
    changed = [row for row in rows if row.gap and row.gap.is_positive]
    better = [row for row in rows if row.gap and row.gap.is_negative]
    if better and not changed:
        last = _bars(better[0].context_length)
        yield f"With all but the last {last} hidden {trained} do detectably better."
    elif not changed:
        last, bound = _bars(rows[0].context_length), _ruled_out(rows[0].gap, verdict)
        yield f"Hiding all but the last {last} costs {trained} nothing detectable{bound}."
    for row in changed[-1:]:
        assert row.gap is not None
        lost = f"{_loss(row.gap.mean or 0, verdict)}{_between(row.gap)}"
        yield (
            f"Hidden at evaluation, the bars before the last {row.context_length} are missed by {trained}: "
            f"the {verdict.words} rises by {lost}."
        )


def _one_seed(split: SplitVerdict, verdict: ContextVerdict) -> Iterator[str]:
    if split.seed_sd is None:
        yield "One seed each: what another training would have given is not in these intervals."


def _ruled_out(gap: Difference, verdict: ContextVerdict) -> str:
    if gap.high is None:
        return "; the dates are too few to bound the difference"
    return f"; differences above {_loss(max(gap.high, 0.0), verdict)} are ruled out"


def _between(gap: Difference, *, sign: int = 1) -> str:
    if gap.low is None or gap.high is None:
        return ""
    low, high = sorted((sign * gap.low, sign * gap.high))
    return f" ({show(low, 'loss')} to {show(high, 'loss')})"


def _loss(value: float, verdict: ContextVerdict) -> str:
    return f"{show(value, 'loss')} {verdict.unit}"


def _bars(n_bars: int) -> str:
    return "1 bar" if n_bars == 1 else f"{n_bars} bars"
