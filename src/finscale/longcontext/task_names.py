"""Names of the tasks, and the names that stand for several of them. No torch.

Symbol models are asked for symbols; pretrained language models are asked in words.
"""

from typing import Literal

from finscale.core.errors import Fault, suggest

__all__ = [
    "ENGINE_PREFIX",
    "ENGINE_TASKS",
    "SYMBOL_TASKS",
    "TEXT_TASKS",
    "Task",
    "is_placed",
    "named_tasks",
]

Task = Literal[
    "needle",
    "latest",
    "dense",
    "far",
    "overwrite",
    "multi_key",
    "multi_value",
    "multi_query",
    "variable_tracking",
    "common_words",
    "frequent_words",
    "passkey",
    "number_string",
    "key_value",
    "lm_eval:niah_single_1",
    "lm_eval:niah_multikey_2",
    "lm_eval:niah_multikey_3",
    "lm_eval:ruler_vt",
    "lm_eval:ruler_fwe",
]

ENGINE_PREFIX = "lm_eval:"

SYMBOL_TASKS: tuple[Task, ...] = ("needle", "latest", "dense", "far", "overwrite")
_RULER: tuple[Task, ...] = (
    "multi_key",
    "multi_value",
    "multi_query",
    "variable_tracking",
    "common_words",
    "frequent_words",
)
_INFINITEBENCH: tuple[Task, ...] = ("passkey", "number_string", "key_value")
TEXT_TASKS: tuple[Task, ...] = ("needle", "latest", *_RULER, *_INFINITEBENCH)

ENGINE_TASKS: tuple[Task, ...] = (
    "lm_eval:niah_single_1",
    "lm_eval:niah_multikey_2",
    "lm_eval:niah_multikey_3",
    "lm_eval:ruler_vt",
    "lm_eval:ruler_fwe",
)
"""RULER's tasks as lm-evaluation-harness asks and scores them; those that need no network."""

_UNPLACED: tuple[Task, ...] = (
    *("dense", "far", "overwrite", "common_words", "frequent_words"),
    *ENGINE_TASKS,
)
_GROUPS: dict[str, tuple[Task, ...]] = {
    "ruler": _RULER,
    "infinitebench": _INFINITEBENCH,
    "recall": ("dense", "far", "overwrite"),
    "multi_hop": ("variable_tracking",),
    "aggregation": ("common_words", "frequent_words"),
}
_NAMED: dict[str, tuple[Task, ...]] = {
    task: (task,) for task in (*SYMBOL_TASKS, *TEXT_TASKS, *ENGINE_TASKS)
} | _GROUPS


def named_tasks(name: str) -> tuple[Task, ...]:
    """Return the tasks that a name stands for.

    Examples
    --------
    >>> named_tasks("aggregation"), named_tasks("needle")
    (('common_words', 'frequent_words'), ('needle',))
    """
    if name not in _NAMED:
        raise Fault("evaluation.benchmarks", "be known tasks", name, suggest(name, _NAMED))
    return _NAMED[name]


def is_placed(task: Task) -> bool:
    """Whether the answer stands at one depth."""
    return task not in _UNPLACED
