"""What a study gets beside its own proposals: transferred, supplemental and recovered trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from finscale.core.budgets import Cell
from finscale.core.files import replacing
from finscale.search.config import SearchConfig
from finscale.search.proposals import Proposer
from finscale.search.recovery import Finding, enter, findings_table, recover
from finscale.search.study import StudyIdentity
from finscale.search.supplemental import Bounds, Named, Supplements, read_plan, resolve_plan
from finscale.search.traces import read_traces
from finscale.search.transfer import Prediction, predict_cell, transferred

__all__ = ["RECOVERED_FILE", "Additions", "add_to", "named_rows"]

RECOVERED_FILE = "trials_recovered.parquet"
_PREDICTION, _OTHERS = "transfer", "other_rows"


@dataclass(frozen=True)
class Additions:
    """A study's proposer with its queue, what it runs on top, and what was found of lost trials."""

    proposer: Proposer
    supplements: Supplements
    prediction: Prediction
    findings: Sequence[Finding]


def named_rows(path: str | None, cell: Cell, bounds: Bounds) -> list[Named]:
    """Return the architectures that a supplemental plan names for a cell; none without a plan.

    Raises
    ------
    FinscaleError
        With every fault of the plan, see `finscale.search.supplemental.resolve_plan`.
    """
    return [] if path is None else resolve_plan(read_plan(Path(path)), cell, bounds)


def add_to(
    study: optuna.Study,
    config: SearchConfig,
    *,
    directory: Path,
    cell: Cell,
    identity: StudyIdentity,
    bounds: Bounds,
    named: Sequence[Named],
    seed: int,
) -> Additions:
    """Prepare what ``config`` asks for, and enter what can be recovered.

    What decides later proposals (the prediction, rows outside of the table) is kept with the study, so that
    every session goes on with the same.

    Parameters
    ----------
    directory : Path
        Of the study; the other cells' lie beside it.
    named : sequence of Named
        From `named_rows`.
    """
    others = _other_rows(study, bounds, named)
    plain = Proposer(bounds.table, config, bounds.space, seed=seed, others=others)
    prediction = _prediction(study, directory, cell, identity) if config.transfer else Prediction()
    queue = transferred(prediction, table=bounds.table, space=bounds.space, proposer=plain)
    findings = _recovered(study, config.recover, directory, identity, bounds, plain)
    proposer = Proposer(bounds.table, config, bounds.space, seed=seed, queue=queue, others=others)
    supplements = Supplements(named, proposer=proposer, space=bounds.space)
    return Additions(proposer, supplements, prediction, findings)


def _other_rows(study: optuna.Study, bounds: Bounds, named: Sequence[Named]) -> list[Mapping[str, Any]]:
    """Return every row outside of the table that a trial of the study may come from."""
    inside = set(bounds.table["arch_id"])
    rows = {row["arch_id"]: dict(row) for row, _ in named if row["arch_id"] not in inside}
    known: dict[str, Any] = study.user_attrs.get(_OTHERS, {})
    if rows.keys() - known.keys():
        known = {**known, **rows}
        study.set_user_attr(_OTHERS, known)
    return list(known.values())


def _prediction(study: optuna.Study, directory: Path, cell: Cell, identity: StudyIdentity) -> Prediction:
    """Return the prediction that the study was given; its first session with enough cells makes it."""
    if _PREDICTION in study.user_attrs:
        return Prediction.model_validate(study.user_attrs[_PREDICTION])
    made = predict_cell(directory, cell, experiment=identity.experiment)
    if made.cells:
        study.set_user_attr(_PREDICTION, made.model_dump(mode="json"))
    return made


def _recovered(
    study: optuna.Study,
    source: str | None,
    directory: Path,
    identity: StudyIdentity,
    bounds: Bounds,
    proposer: Proposer,
) -> list[Finding]:
    if source is None:
        return []
    hashes = {"config_hash": identity.config_hash, "data_hash": identity.data}
    judged = recover(
        read_traces(Path(source)),
        table=bounds.table,
        space=bounds.space,
        proposer=proposer,
        fixed=study.user_attrs["fixed"],
        config_hash=identity.config_hash,
    )
    findings = enter(study, judged, proposer, hashes)
    with replacing(directory / RECOVERED_FILE) as temporary:
        findings_table(findings).to_parquet(temporary, index=False)
    return findings
