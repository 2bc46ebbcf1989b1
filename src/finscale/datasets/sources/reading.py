"""From a catalog entry to its source: the record that its ``kind`` names."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from finscale.core.config import Record, faults_of
from finscale.core.errors import Fault, suggest
from finscale.datasets.sources.bundled import ArchSource
from finscale.datasets.sources.panel import PanelSource
from finscale.datasets.sources.simulated import SimulatedDailySource, SimulatedIntradaySource
from finscale.datasets.sources.source import Source
from finscale.datasets.sources.user_file import FileSource
from finscale.datasets.sources.yahoo import YahooSource

__all__ = ["SOURCES", "read_source"]

SOURCES: dict[str, type[Source]] = {
    "arch": ArchSource,
    "file": FileSource,
    "yfinance": YahooSource,
    "panel": PanelSource,
}
_PROCESSES: dict[str, type[Source]] = {
    "garch_t_daily": SimulatedDailySource,
    "intraday_sessions": SimulatedIntradaySource,
}
_KINDS = (*SOURCES, "simulated")


def read_source(values: Any, *, subject: str) -> tuple[Source | None, list[Fault]]:
    """Read a source, or say everything that is wrong with it.

    Parameters
    ----------
    values : mapping
        ``kind`` and the keys of that kind.
    subject : str
        Prefix of the keys in messages (``source``).

    Returns
    -------
    Source or None, list of Fault
        None where there are faults.
    """
    try:
        found, subject = _class_of(values, subject)
    except Fault as fault:
        return None, [fault]
    faults: list[Fault] = []
    if found is PanelSource and isinstance(values.get("members"), Mapping):
        values, faults = _with_members(values, subject)
    try:
        source = found.model_validate(values)
    except ValidationError as error:
        own = [_placed(fault, subject) for fault in faults_of(error, found, subject)]
        # members that were refused are not missed as well
        return None, faults + [fault for fault in own if not faults or fault.subject != f"{subject}.members"]
    return (None if faults else source), faults


def _class_of(values: Any, subject: str) -> tuple[type[Source], str]:
    """Return the class and the subject under which its keys are reported."""
    if not isinstance(values, Mapping):
        raise Fault(subject, "be a mapping", values, "try {kind: arch, symbol: sp500}")
    kind = _known(values, "kind", _KINDS, subject)
    if kind != "simulated":
        return SOURCES[kind], f"{subject}.{kind}"
    return _PROCESSES[_known(values, "process", tuple(_PROCESSES), subject)], f"{subject}.{kind}"


def _known(values: Mapping[str, Any], key: str, legal: tuple[str, ...], subject: str) -> str:
    found = values.get(key)
    if found not in legal:
        raise Fault(f"{subject}.{key}", f"be a known {key}", found, suggest(str(found), legal))
    return cast(str, found)


def _with_members(values: Mapping[str, Any], subject: str) -> tuple[dict[str, Any], list[Fault]]:
    """Read each member of a panel by itself, so that a fault names it."""
    members: dict[str, Record] = {}
    faults: list[Fault] = []
    for name, member in values["members"].items():
        place = f"{subject}.members.{name}"
        if isinstance(member, Mapping) and member.get("kind") == "panel":
            remedy = "list its members in the outer panel"
            faults.append(Fault(f"{place}.kind", "be the source of one instrument", "panel", remedy))
            continue
        source, found = read_source(member, subject=place)
        faults += found
        if source is not None:
            members[str(name)] = source
    return {**values, "members": members}, faults


def _placed(fault: Fault, subject: str) -> Fault:
    """A record's own rules know their keys, not where the record stands."""
    if fault.subject.startswith(subject):
        return fault
    return Fault(f"{subject}.{fault.subject}", fault.rule, fault.got, fault.remedy)
