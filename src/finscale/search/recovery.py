"""Rebuild trials from what is left of them: look each up in the cell's table, and refuse what is unclear.

A recovered trial enters the study as complete, marked ``recovered`` with its ``source``; the table of all
that was found says of the others why they did not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from finscale.archgrid.base import DIMENSIONS
from finscale.search.bound_space import BoundSpace
from finscale.search.dimensions import holds
from finscale.search.proposals import Proposal, Proposer
from finscale.search.traces import Trace
from finscale.search.trials import TRIAL_COLUMNS

__all__ = ["Finding", "Status", "enter", "findings_table", "look_up", "recover"]

Status = Literal[
    "recovered", "ambiguous", "unknown", "incomplete", "foreign", "not complete", "already there"
]

_LISTED = 6


@dataclass(frozen=True)
class Finding:
    """What became of one trace; ``proposal`` only where it was recovered."""

    trace: Trace
    status: Status
    reason: str = ""
    row: Mapping[str, Any] = field(default_factory=dict)
    proposal: Proposal | None = None


class _Refused(Exception):
    """A trace that cannot be recovered."""

    def __init__(self, status: Status, reason: str, row: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.row = status, reason, row or {}


def recover(
    traces: Sequence[Trace],
    *,
    table: pd.DataFrame,
    space: BoundSpace,
    proposer: Proposer,
    fixed: Mapping[str, Any],
    config_hash: str,
) -> list[Finding]:
    """Judge every trace: which architecture it was, and whether it is a trial of this search.

    Parameters
    ----------
    table : DataFrame
        Candidates of the cell.
    space, proposer : BoundSpace, Proposer
        Of the study that the trials would belong to.
    fixed : mapping
        Training parameters that are not searched; a trace that says otherwise is of another search.
    config_hash : str
        Of the study; a trace with another one is of another study.
    """

    def judge(trace: Trace) -> Finding:
        try:
            _refuse_foreign(trace, fixed, config_hash)
            row = look_up(trace, table)
            proposal = _proposal(trace, row, space, proposer)
        except _Refused as refused:
            return Finding(trace, refused.status, refused.reason, refused.row)
        if trace.outcome != "complete":
            return Finding(trace, "not complete", trace.outcome, row)
        return Finding(trace, "recovered", "", row, proposal)

    return [judge(trace) for trace in traces]


def look_up(trace: Trace, table: pd.DataFrame) -> dict[str, Any]:
    """Return the one row of the table that a trace agrees with."""
    if trace.ambiguity:
        raise _Refused("ambiguous", trace.ambiguity)
    told = {name: value for name, value in trace.known.items() if name in table.columns and value is not None}
    told.pop("grid_hash", None)
    if not told.keys() & {"arch_id", *DIMENSIONS, "n_params"}:
        raise _Refused("ambiguous", "nothing is said of its architecture")
    agrees = pd.Series(True, index=table.index)
    for name, value in told.items():
        agrees &= table[name].between(*value) if isinstance(value, tuple) else table[name] == value
    found = table[agrees]
    if found.empty:
        raise _Refused("unknown", f"no architecture of this cell has {_pairs(told)}")
    if len(found) > 1:
        raise _Refused("ambiguous", f"{len(found)} architectures of this cell fit: {_differences(found)}")
    return {str(name): value for name, value in found.iloc[0].to_dict().items()}


def enter(
    study: optuna.Study, findings: Sequence[Finding], proposer: Proposer, hashes: Mapping[str, str]
) -> list[Finding]:
    """Add the recovered trials that the study lacks, under the next numbers; return what became of each.

    Without a config_hash of its own, a trace enters only a study that has no trials but recovered ones.

    Parameters
    ----------
    hashes : mapping
        ``config_hash`` and ``data_hash`` of the study.
    """
    trials = study.get_trials(deepcopy=False)
    taken = {trial.user_attrs["proposal_id"] for trial in trials}
    is_empty = all(trial.user_attrs.get("recovered") for trial in trials)
    settled = [_settle(finding, taken, is_empty=is_empty) for finding in findings]
    for finding in settled:
        if finding.status == "recovered":
            study.add_trial(_trial(finding, proposer, hashes))
    return settled


def findings_table(findings: Sequence[Finding]) -> pd.DataFrame:
    """Return one row per trace: what was told, what was found, and what became of it."""
    rows = [
        {
            "number": finding.trace.number,
            "source": finding.trace.source,
            "status": finding.status,
            "reason": finding.reason,
            "outcome": finding.trace.outcome,
            "value": finding.trace.value,
            **{name: (finding.row or finding.trace.known).get(name) for name in ("arch_id", *DIMENSIONS)},
            "n_params": finding.row.get("n_params"),
            **_training(finding),
        }
        for finding in findings
    ]
    return pd.DataFrame(rows).convert_dtypes()


def _training(finding: Finding) -> dict[str, Any]:
    if finding.proposal is not None:
        return dict(finding.proposal.training)
    names = [*DIMENSIONS, "arch_id", "n_params", "outcome", "number", "source", "value"]
    return {name: value for name, value in finding.trace.known.items() if name not in names}


def _refuse_foreign(trace: Trace, fixed: Mapping[str, Any], config_hash: str) -> None:
    theirs = trace.known.get("config_hash", config_hash)
    if theirs != config_hash:
        raise _Refused("foreign", f"of a study with config_hash {theirs}")
    differing = [
        f"{name}={trace.known[name]}, here {value}"
        for name, value in fixed.items()
        if name in trace.known and trace.known[name] != value
    ]
    if differing and "config_hash" not in trace.known:
        raise _Refused("foreign", f"trained with {'; '.join(differing)}")


def _proposal(trace: Trace, row: Mapping[str, Any], space: BoundSpace, proposer: Proposer) -> Proposal:
    """Return the proposal that the trial was, if all of it is told and lies within the space."""
    told = {**trace.known, **space.indices(trace.known)}
    try:
        drawn = space.active(row, told)
    except KeyError as missing:
        raise _Refused("incomplete", f"{missing.args[0]} is not told", row) from None
    outside = [f"{name}={value}" for name, value in drawn.items() if not holds(space.free[name], value)]
    if outside:
        raise _Refused("foreign", f"{', '.join(outside)} lies outside of hpo.space", row)
    marks = {"recovered": True, "source": trace.source}
    return proposer.named(str(trace.known.get("kind", "recovered")), row, space.training(row, drawn), marks)


def _settle(finding: Finding, taken: set[str], *, is_empty: bool) -> Finding:
    if finding.proposal is None or finding.status != "recovered":
        return finding
    if finding.proposal.id in taken:
        return Finding(finding.trace, "already there", "", finding.row, finding.proposal)
    if not is_empty and "config_hash" not in finding.trace.known:
        reason = "the study has trials of its own, and the source names no config_hash"
        return Finding(finding.trace, "foreign", reason, finding.row, finding.proposal)
    taken.add(finding.proposal.id)
    return finding


def _trial(finding: Finding, proposer: Proposer, hashes: Mapping[str, str]) -> FrozenTrial:
    assert finding.proposal is not None
    proposal, trace = finding.proposal, finding.trace
    ran = {name: trace.known[name] for name in TRIAL_COLUMNS if name in trace.known}
    told = {"recovered_number": trace.number, "outcome": trace.outcome, "reason": ""}
    attributes = {**ran, **proposal.attributes, **told, **hashes}
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE,
        value=trace.value,
        params=proposal.params,
        distributions={name: proposer.distributions[name] for name in proposal.params},
        user_attrs={name: value for name, value in attributes.items() if name not in proposal.params},
    )


def _differences(found: pd.DataFrame) -> str:
    """Say in which dimensions several rows differ, and how."""
    lists = {name: sorted(found[name].unique().tolist()) for name in (*DIMENSIONS, "n_params")}
    return ", ".join(
        f"{name} {' or '.join(map(str, values[:_LISTED]))}{' ...' * (len(values) > _LISTED)}"
        for name, values in lists.items()
        if len(values) > 1
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())
