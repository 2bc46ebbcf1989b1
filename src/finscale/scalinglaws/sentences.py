"""A verdict in plain English: what was found, how sure we are, and what the design could have missed."""

from dataclasses import dataclass
from typing import Any

from finscale.core.budgets import format_n
from finscale.core.citation import cite, plain
from finscale.scalinglaws.cells import Note
from finscale.scalinglaws.verdict import ScalingVerdict, Status, TrendVerdict, Verdict

__all__ = ["cited_sentences", "format_n", "headline", "sentences"]

_HEADLINES = {
    Verdict.SCALING: "Bigger models predict better here.",
    Verdict.NO_DETECTABLE_SCALING: "No effect of model size can be detected here.",
    Verdict.INVERSE_SCALING: "Bigger models predict worse here.",
    Verdict.NOT_ENOUGH_DATA: "There is not enough data for a verdict yet.",
}
_SPLITS = {"val_score": "the scoring half of validation", "test": "the test period"}


@dataclass(frozen=True)
class _Voice:
    """Where the verdict is written down, and the words for its loss."""

    verdict: ScalingVerdict
    at: str
    unit: str
    reference: str

    def cite(self, value: Any, place: str, form: str = "text") -> str:
        return cite(value, f"{self.at}/{place}", form)

    def loss(self, value: float | None, place: str, form: str = "loss") -> str:
        return "an unknown amount" if value is None else f"{self.cite(value, place, form)} {self.unit}"

    def p(self, value: float | None, place: str) -> str:
        return "p unknown" if value is None else f"p {self.cite(value, place, 'p')}"

    @property
    def sure(self) -> str:
        level = self.verdict.overall.bound_level
        return f"{self.cite(level, 'overall/bound_level', 'rest of 100')} % confidence"


def headline(verdict: ScalingVerdict) -> str:
    """Return the overall verdict as one short sentence."""
    return _HEADLINES[verdict.overall.verdict]


def sentences(
    verdict: ScalingVerdict, *, unit: str = "nats", reference: str = "base rate"
) -> tuple[str, ...]:
    """Say what a verdict found, one thought per sentence, the most important first.

    Drops are falls of the loss from the smallest to the largest measured N.

    Parameters
    ----------
    unit : str
        Of the loss.
    reference : str
        What the excess loss is measured from.
    """
    return tuple(map(plain, cited_sentences(verdict, at="", unit=unit, reference=reference)))


def cited_sentences(
    verdict: ScalingVerdict, *, at: str, unit: str = "nats", reference: str = "base rate"
) -> tuple[str, ...]:
    """Return the same, each number citing its place in the verdict's record (`finscale.core.citation`).

    Parameters
    ----------
    at : str
        Where the verdict is written down: ``scaling_summary.json#/val_score``.
    """
    voice = _Voice(verdict, at, unit, reference)
    parts = (_finding, _reference, _exponent, _horizons, _limits)
    return tuple(sentence for part in parts for sentence in part(voice))


def _finding(voice: _Voice) -> list[str]:
    trend = voice.verdict.overall
    if trend.status not in (Status.OK, Status.NO_NOISE, Status.TIES):
        return [_not_enough(voice)]
    where = f"on {_SPLITS.get(voice.verdict.split, voice.verdict.split)}, {_range(voice)}"
    if trend.status is Status.TIES:
        return [f"Every budget has exactly the same loss {where}: nothing varies, so nothing can be tested."]
    said = {
        Verdict.SCALING: _scaling,
        Verdict.INVERSE_SCALING: _inverse,
        Verdict.NO_DETECTABLE_SCALING: _no_scaling,
    }[trend.verdict]
    return [said(voice, where)]


def _range(voice: _Voice) -> str:
    trend = voice.verdict.overall
    sizes = dict(enumerate(trend.n_params))
    ends = (min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__))
    low, high = (voice.cite(sizes[i], f"overall/n_params/{i}", "n") for i in ends)
    shown = [voice.cite(h, f"overall/horizons/{i}") for i, h in enumerate(trend.horizons)]
    averaged = f"horizon {shown[0]}" if len(shown) == 1 else f"horizons {_listed(shown)} averaged"
    n_budgets = voice.cite(trend.budgets, "overall/budgets", "length")
    return f"from {low} to {high} parameters ({n_budgets} budgets, {averaged})"


def _scaling(voice: _Voice, where: str) -> str:
    trend = voice.verdict.overall
    least = voice.loss(trend.drop_lower, "overall/drop_lower")
    at_least = "" if trend.drop_lower is None else f", and by at least {least} with {voice.sure}"
    fall = voice.loss(trend.drop, "overall/drop")
    return f"The loss falls by {fall} {where}{at_least}; one-sided {_p_scaling(voice)}."


def _inverse(voice: _Voice, where: str) -> str:
    trend = voice.verdict.overall
    least = voice.loss(trend.drop_upper, "overall/drop_upper", "minus loss")
    at_least = "" if trend.drop_upper is None else f", and by at least {least} with {voice.sure}"
    rise = voice.loss(trend.drop, "overall/drop", "minus loss")
    return f"The loss rises by {rise} {where}{at_least}; one-sided {_p_inverse(voice)}."


def _no_scaling(voice: _Voice, where: str) -> str:
    trend = voice.verdict.overall
    return (
        f"The loss does not change detectably {where}: a fall of more than "
        f"{voice.loss(trend.drop_upper, 'overall/drop_upper')} over this range is ruled out with "
        f"{voice.sure}; the estimate is {voice.loss(trend.drop, 'overall/drop')} and one-sided "
        f"{_p_scaling(voice)} for scaling, {_p_inverse(voice)} for its inverse."
    )


def _p_scaling(voice: _Voice) -> str:
    return voice.p(voice.verdict.overall.p_scaling, "overall/p_scaling")


def _p_inverse(voice: _Voice) -> str:
    return voice.p(voice.verdict.overall.p_inverse, "overall/p_inverse")


def _not_enough(voice: _Voice) -> str:
    trend = voice.verdict.overall
    if trend.status is Status.NO_COMMON_HORIZON:
        return "No horizon has a finished run in every budget, so the budgets cannot be compared."
    if trend.status is Status.CONSTANT_N:
        return "Every budget has the same actual number of parameters, so size was not varied."
    n = len(trend.budgets)
    shown = voice.cite(trend.budgets, "overall/budgets", "length")
    have = "no budget has" if n == 0 else f"only {shown} {'budget has' if n == 1 else 'budgets have'}"
    return f"A trend needs at least 3 budgets, and {have} a finished run."


def _exponent(voice: _Voice) -> list[str]:
    exponent = voice.verdict.exponent
    if exponent.estimate is None and exponent.status == "too_few_budgets":
        return ["No exponent is given: that takes at least 4 budgets of different size."]
    if exponent.estimate is None and voice.verdict.overall.verdict is not Verdict.SCALING:
        return ["No exponent is given: without detectable scaling there is none to measure."]
    low, high = (voice.cite(getattr(exponent, end), f"exponent/{end}", ".2f") for end in ("low", "high"))
    interval = f"{voice.cite(exponent.level, 'exponent/level', 'percent')} % profile interval"
    if exponent.estimate is None:
        return [f"The exponent is unidentified: its {interval} is {low} to {high}."]
    estimate = voice.cite(exponent.estimate, "exponent/estimate", ".2f")
    return [f"The exponent is {estimate} ({interval} {low} to {high})."]


def _reference(voice: _Voice) -> list[str]:
    verdict = voice.verdict
    if Note.LOSS_ABOVE_BASE_RATE not in verdict.notes:
        return []
    worse, n = verdict.n_cells_above_base_rate, verdict.n_cells
    shown = voice.cite(worse, "n_cells_above_base_rate"), voice.cite(n, "n_cells")
    share = "every cell" if worse == n else f"{shown[0]} of {shown[1]} cells"
    return [f"In {share} the model is worse than the {voice.reference}, which knows nothing but the average."]


def _horizons(voice: _Voice) -> list[str]:
    found = voice.verdict.by_horizon
    if len(found) < 2 or all(trend.p_scaling is None for trend in found):
        return []
    each = [_of_horizon(voice, i, trend) for i, trend in enumerate(found)]
    return [f"By horizon, Holm-adjusted: {'; '.join(each)}."]


def _of_horizon(voice: _Voice, i: int, trend: TrendVerdict) -> str:
    at = f"by_horizon/{i}"
    words = trend.verdict.value.replace("_", " ")
    name = "p_inverse" if trend.verdict is Verdict.INVERSE_SCALING else "p_scaling"
    p = getattr(trend, name)
    shown = "" if p is None else f" ({voice.p(p, f'{at}/{name}')})"
    return f"horizon {voice.cite(trend.horizons[0], f'{at}/horizons/0')} {words}{shown}"


def _limits(voice: _Voice) -> list[str]:
    verdict, trend = voice.verdict, voice.verdict.overall
    found = []
    if trend.detectable_drop is not None:
        found.append(
            f"With the noise seen, {voice.cite(trend.budgets, 'overall/budgets', 'length')} budgets at these "
            f"sizes would detect a drop of {voice.loss(trend.detectable_drop, 'overall/detectable_drop')} or "
            "more with 80 % power."
        )
    if trend.status is Status.NO_NOISE:
        found.append(
            "The budgets lie exactly on a line: the p-value carries no noise, so treat it with suspicion."
        )
    if Note.ONE_SEED in verdict.notes:
        found.append("Some cells have one seed only, so the spread between seeds is partly unknown.")
    return found + _losses(voice)


def _losses(voice: _Voice) -> list[str]:
    verdict, found = voice.verdict, []
    if verdict.n_dropped:
        runs = "run was" if verdict.n_dropped == 1 else "runs were"
        n_dropped = voice.cite(verdict.n_dropped, "n_dropped")
        found.append(f"{n_dropped} {runs} left out (not finished, or without a finite loss).")
    if verdict.missing:
        found.append(f"Missing cells: {voice.cite(list(verdict.missing), 'missing', 'list')}.")
    return found


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
