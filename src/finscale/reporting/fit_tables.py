"""The fitted curves, what they foretold of the largest budget, and the trend at equal search effort."""

from finscale.reporting.study import ReportInput
from finscale.reporting.tables import Cell, Column, Table, count, interval, number, signed
from finscale.scalinglaws.extrapolation import AveragedExtrapolation, Extrapolation
from finscale.scalinglaws.fitting import FormFit
from finscale.scalinglaws.forms import N_PARAMETERS
from finscale.scalinglaws.selection import selection_trend

__all__ = ["extrapolation_table", "model_set_table", "selection_table"]

_FORMULAS = {
    "constant": "E",
    "log_linear": "E + B log10 N",
    "quadratic": "E + B log10 N + Q (log10 N)^2",
    "power_law": "E + A N^-alpha",
}


def model_set_table(study: ReportInput) -> Table:
    """Every form fitted to the overall response, and what it is worth beside the simpler ones."""
    heads = (
        "form",
        "curve",
        "free",
        f"residual SD ({study.measure.unit})",
        "AICc",
        "p beside constant",
        "p beside line",
        "status",
    )
    return Table(
        title="Fitted curves",
        columns=tuple(Column(name=name, align="left" if name in heads[:2] else "right") for name in heads),
        rows=tuple(_form_row(study, form) for form in study.verdict.fit.forms),
        note="Loss relative to the reference, averaged over horizons, against N. AICc where there are enough "
        "budgets for it; p-values are likelihood ratios against a simulated null. The verdict rests on none "
        "of these.",
    )


def _form_row(study: ReportInput, form: FormFit) -> tuple[Cell, ...]:
    p_values = {
        found.null: found.p_value for found in study.verdict.fit.comparisons if found.alternative == form.form
    }
    spread = None if form.residual_variance is None else form.residual_variance**0.5
    return (
        Cell(value=form.form, form="words"),
        Cell(value=_FORMULAS[form.form]),
        count(N_PARAMETERS[form.form]),
        number(spread, 5),
        number(form.aicc, 1),
        *(Cell(value=p_values.get(null), form="p value") for null in ("constant", "log_linear")),
        Cell(value=form.status, form="words"),
    )


def extrapolation_table(study: ReportInput) -> Table | None:
    """The largest budget as the smaller ones foretold it; None where they foretell nothing."""
    fitted = study.verdict.fit
    if fitted.extrapolation is None:
        return None
    rows = [_foretold(found.form.replace("_", " "), found, study) for found in fitted.extrapolations]
    unit = study.measure.unit
    heads = (
        "form",
        f"predicted ({unit})",
        "90 % band",
        f"observed ({unit})",
        "error",
        "error in seed SD",
        "inside",
    )
    return Table(
        title="The largest budget left out",
        columns=tuple(Column(name=name, align="left" if name == "form" else "right") for name in heads),
        rows=(*rows, _foretold("average", fitted.extrapolation, study)),
        note="Loss relative to the reference. The average weighs constant, line and power law by BIC on the "
        "smaller budgets.",
    )


def _foretold(
    name: str, found: Extrapolation | AveragedExtrapolation, study: ReportInput
) -> tuple[Cell, ...]:
    seed_sd = study.verdict.seed_sd
    return (
        Cell(value=name),
        signed(found.predicted),
        interval(found.low, found.high),
        signed(found.observed),
        signed(found.error),
        signed(found.error / seed_sd if seed_sd else None, 1),
        Cell(value="yes" if found.inside else "no"),
    )


def selection_table(study: ReportInput) -> Table | None:
    """The trend of the searches' best values beside that at one effort; None below three budgets."""
    found = selection_trend(study.trials)
    if found is None:
        return None
    heads = ("response", "m", f"slope ({study.measure.unit} per decade)", "p scaling", "p inverse")
    best = (Cell(value="best of all trials"), Cell(), signed(found.slope_of_best, 5), Cell(), Cell())
    equal = (
        Cell(value="expected best of m random trials"),
        count(found.m),
        signed(found.slope_of_expected, 5),
        *(Cell(value=p, form="p value") for p in (found.p_scaling, found.p_inverse)),
    )
    return Table(
        title="The trend at equal search effort",
        columns=tuple(Column(name=name, align="left" if name == "response" else "right") for name in heads),
        rows=(best, equal),
        note="Excess loss on the half of validation that the search saw, averaged over horizons. The first "
        "slope is biased where searches differ in length; neither decides the verdict.",
    )
