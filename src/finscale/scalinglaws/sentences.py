"""A verdict in plain English: what was found, how sure we are, and what the design could have missed."""

from finscale.core.budgets import format_budget
from finscale.scalinglaws.cells import Note
from finscale.scalinglaws.verdict import ScalingVerdict, Status, TrendVerdict, Verdict

__all__ = ["format_n", "headline", "sentences"]

_HEADLINES = {
    Verdict.SCALING: "Bigger models predict better here.",
    Verdict.NO_DETECTABLE_SCALING: "No effect of model size can be detected here.",
    Verdict.INVERSE_SCALING: "Bigger models predict worse here.",
    Verdict.NOT_ENOUGH_DATA: "There is not enough data for a verdict yet.",
}
_SPLITS = {"val_score": "the scoring half of validation", "test": "the test period"}


def headline(verdict: ScalingVerdict) -> str:
    """Return the overall verdict as one short sentence."""
    return _HEADLINES[verdict.overall.verdict]


def sentences(verdict: ScalingVerdict) -> tuple[str, ...]:
    """Say what a verdict found, one thought per sentence, the most important first.

    Drops are falls of the log loss in nats from the smallest to the largest measured N.
    """
    parts = [
        _finding(verdict),
        *_base_rate(verdict),
        *_exponent(verdict),
        *_horizons(verdict),
        *_limits(verdict),
    ]
    return tuple(parts)


def format_n(n_params: float) -> str:
    """Write a parameter count to three digits (``19_912_345 -> 19.9M``)."""
    count = round(n_params)
    return format_budget(round(count, min(3 - len(str(count)), 0)))


def _finding(verdict: ScalingVerdict) -> str:
    trend = verdict.overall
    if trend.status not in (Status.OK, Status.NO_NOISE, Status.TIES):
        return _not_enough(trend)
    where = f"on {_SPLITS.get(verdict.split, verdict.split)}, {_range(trend)}"
    if trend.status is Status.TIES:
        return f"Every budget has exactly the same loss {where}: nothing varies, so nothing can be tested."
    return {
        Verdict.SCALING: _scaling,
        Verdict.INVERSE_SCALING: _inverse,
        Verdict.NO_DETECTABLE_SCALING: _no_scaling,
    }[trend.verdict](trend, where)


def _range(trend: TrendVerdict) -> str:
    low, high = format_n(min(trend.n_params)), format_n(max(trend.n_params))
    horizons = _listed([str(horizon) for horizon in trend.horizons])
    averaged = f"horizon {horizons}" if len(trend.horizons) == 1 else f"horizons {horizons} averaged"
    return f"from {low} to {high} parameters ({len(trend.budgets)} budgets, {averaged})"


def _scaling(trend: TrendVerdict, where: str) -> str:
    at_least = (
        ""
        if trend.drop_lower is None
        else f", and by at least {_nats(trend.drop_lower)} with 95 % confidence"
    )
    return f"The loss falls by {_nats(trend.drop)} {where}{at_least}; one-sided p {_p(trend.p_scaling)}."


def _inverse(trend: TrendVerdict, where: str) -> str:
    rise, least = -(trend.drop or 0.0), trend.drop_upper
    at_least = "" if least is None else f", and by at least {_nats(-least)} with 95 % confidence"
    return f"The loss rises by {_nats(rise)} {where}{at_least}; one-sided p {_p(trend.p_inverse)}."


def _no_scaling(trend: TrendVerdict, where: str) -> str:
    return (
        f"The loss does not change detectably {where}: a fall of more than {_nats(trend.drop_upper)} over "
        f"this range is ruled out with 95 % confidence; the estimate is {_nats(trend.drop)} and one-sided "
        f"p {_p(trend.p_scaling)} for scaling, p {_p(trend.p_inverse)} for its inverse."
    )


def _not_enough(trend: TrendVerdict) -> str:
    if trend.status is Status.NO_COMMON_HORIZON:
        return "No horizon has a finished run in every budget, so the budgets cannot be compared."
    if trend.status is Status.CONSTANT_N:
        return "Every budget has the same actual number of parameters, so size was not varied."
    n = len(trend.budgets)
    have = "no budget has" if n == 0 else f"only {n} {'budget has' if n == 1 else 'budgets have'}"
    return f"A trend needs at least 3 budgets, and {have} a finished run."


def _exponent(verdict: ScalingVerdict) -> list[str]:
    exponent = verdict.exponent
    if exponent.estimate is not None:
        return [f"The exponent is {exponent.estimate:.2f} (90 % profile interval {_alphas(verdict)})."]
    if exponent.status == "too_few_budgets":
        return ["No exponent is given: that takes at least 4 budgets of different size."]
    if verdict.overall.verdict is not Verdict.SCALING:
        return ["No exponent is given: without detectable scaling there is none to measure."]
    return [f"The exponent is unidentified: its 90 % profile interval is {_alphas(verdict)}."]


def _alphas(verdict: ScalingVerdict) -> str:
    return f"{verdict.exponent.low:.2f} to {verdict.exponent.high:.2f}"


def _base_rate(verdict: ScalingVerdict) -> list[str]:
    if Note.LOSS_ABOVE_BASE_RATE not in verdict.notes:
        return []
    worse, n = verdict.n_cells_above_base_rate, verdict.n_cells
    share = "every cell" if worse == n else f"{worse} of {n} cells"
    return [f"In {share} the model is worse than the base rate, which knows nothing but the average."]


def _horizons(verdict: ScalingVerdict) -> list[str]:
    tested = [trend for trend in verdict.by_horizon if trend.p_scaling is not None]
    if len(verdict.by_horizon) < 2 or not tested:
        return []
    each = [f"horizon {t.horizons[0]} {_words(t)}" for t in verdict.by_horizon]
    return [f"By horizon, Holm-adjusted: {'; '.join(each)}."]


def _words(trend: TrendVerdict) -> str:
    words = trend.verdict.value.replace("_", " ")
    p = trend.p_inverse if trend.verdict is Verdict.INVERSE_SCALING else trend.p_scaling
    return words if p is None else f"{words} (p {_p(p)})"


def _limits(verdict: ScalingVerdict) -> list[str]:
    found = []
    trend = verdict.overall
    if trend.detectable_drop is not None:
        n = len(trend.budgets)
        found.append(
            f"With the noise seen, {n} budgets at these sizes would detect a drop of "
            f"{_nats(trend.detectable_drop)} or more with 80 % power."
        )
    if trend.status is Status.NO_NOISE:
        found.append(
            "The budgets lie exactly on a line: the p-value carries no noise, so treat it with suspicion."
        )
    if Note.ONE_SEED in verdict.notes:
        found.append("Some cells have one seed only, so the spread between seeds is partly unknown.")
    return found + _losses(verdict)


def _losses(verdict: ScalingVerdict) -> list[str]:
    found = []
    if verdict.n_dropped:
        runs = "run was" if verdict.n_dropped == 1 else "runs were"
        found.append(f"{verdict.n_dropped} {runs} left out (not finished, or without a finite loss).")
    if verdict.missing:
        found.append(f"Missing cells: {', '.join(verdict.missing)}.")
    return found


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _nats(value: float | None) -> str:
    if value is None:
        return "an unknown amount"
    decimals = 4 if abs(value) >= 1e-3 or value == 0 else 5 if abs(value) >= 1e-4 else 6
    return f"{value:.{decimals}f} nats"


def _p(value: float | None) -> str:
    if value is None:
        return "unknown"
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
