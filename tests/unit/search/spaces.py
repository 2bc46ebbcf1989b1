"""Random finite spaces of a patchtst whose rows differ in pooling, and what they hold by brute force."""

import itertools
from typing import Any

from hypothesis import strategies as st

VALUES: dict[str, tuple[Any, ...]] = {
    "epochs": (5, 10, 20),
    "learning_rate": (1e-3, 1e-4, 1e-5),
    "weight_decay": (0.0, 0.1),
    "warmup_steps": (10, 20, 30),
    "patience": (3, 5, 7),
    "clip_norm": (0.5, 1.0, None),
    "min_delta": (0.0, 0.1),
    "dropout": (0.1, 0.2),
    "schedule": ("cosine", "linear"),
    "label_smoothing": (0.0, 0.1),
}
REQUIRED = ("epochs", "learning_rate", "weight_decay", "warmup_steps")
POOLING = ("mean", "last")

Settings = frozenset[tuple[str, Any]]


@st.composite
def _spaces(draw: st.DrawFn) -> dict[str, Any]:
    """Lists for every required name; some of the others, some tied, some waiting for another."""
    optional = draw(st.lists(st.sampled_from(sorted(set(VALUES) - set(REQUIRED))), unique=True, max_size=3))
    names = [*REQUIRED, *optional]
    tied = draw(st.lists(st.sampled_from(names), unique=True, max_size=3))
    tied = tied if len(tied) > 1 else []
    alone = [name for name in names if name not in tied]
    space: dict[str, Any] = {name: {"choices": draw(_some(name))} for name in alone}
    space["pooling"] = {"choices": list(POOLING)}
    if tied:
        length = draw(st.integers(1, min(len(VALUES[name]) for name in tied)))
        space["linked"] = [{name: list(VALUES[name][:length]) for name in tied}]
    waiting = [name for name in alone if name not in REQUIRED]
    for place, name in enumerate(waiting):
        parents = [other for other in (*names, "pooling") if other not in waiting[place:]]
        if draw(st.booleans()):
            space[name]["when"] = _condition(draw, space, draw(st.sampled_from(parents)))
    return space | {name: None for name in ("dropout",) if name not in names}


def _some(name: str) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(VALUES[name]), unique_by=repr, min_size=1, max_size=3)


def _condition(draw: st.DrawFn, space: dict[str, Any], parent: str) -> dict[str, Any]:
    offered = space[parent]["choices"] if parent in space else space["linked"][0][parent]
    wanted = draw(st.lists(st.sampled_from(offered), unique_by=repr, min_size=1))
    is_word = len(wanted) == 1 and draw(st.booleans())
    return {parent: wanted[0] if is_word else wanted}


SPACES = _spaces()


def settings_by_brute_force(space: dict[str, Any], row: dict[str, Any]) -> set[Settings]:
    """Every distinct training of a row: the whole product, less what its conditions leave out."""
    dimensions = {name: found for name, found in space.items() if found and name not in ("linked", "pooling")}
    groups = space.get("linked", [])
    lists = [[{name: value} for value in found["choices"]] for name, found in dimensions.items()]
    lists += [
        [dict(zip(group, values, strict=True)) for values in zip(*group.values(), strict=True)]
        for group in groups
    ]
    found = set()
    for parts in itertools.product(*lists):
        whole = {name: value for part in parts for name, value in part.items()}
        kept = {n: v for n, v in whole.items() if _holds(n, dimensions, {**whole, **row})}
        found.add(frozenset(kept.items()))
    return found


def _holds(name: str, dimensions: dict[str, Any], values: dict[str, Any]) -> bool:
    """Whether a name is active: its conditions hold, and so do those of what it waits for."""
    for other, wanted in (dimensions.get(name, {}).get("when") or {}).items():
        wanted = wanted if isinstance(wanted, list) else [wanted]
        if values[other] not in wanted or not _holds(other, dimensions, values):
            return False
    return True
