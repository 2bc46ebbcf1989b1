"""Errors that speak: *subject must rule, got value; remedy*."""

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["Answered", "Fault", "FinscaleError", "Interrupted", "raise_faults", "suggest", "user_fault"]


class FinscaleError(ValueError):
    """A mistake the caller can mend; the shell prints it without a stack trace.

    Attributes
    ----------
    faults : tuple of Exception
        The mistakes that were raised at once as this one; empty where it is a single one.
    """

    faults: tuple[Exception, ...] = ()


class Fault(FinscaleError):
    """One broken rule.

    Parameters
    ----------
    subject : str
        What is wrong, as the user wrote it (``budget``, ``bars.high``).
    rule : str
        What it must be or do, without the word *must*.
    got : object
        The offending value; shown by ``repr`` unless it is a string with spaces.
    remedy : str
        What to type or change.

    Examples
    --------
    >>> print(Fault("horizon", "be a positive number of bars", 0, "try horizon=1"))
    horizon must be a positive number of bars, got 0; try horizon=1
    """

    def __init__(self, subject: str, rule: str, got: Any, remedy: str = "") -> None:
        self.subject, self.rule, self.got, self.remedy = subject, rule, got, remedy
        shown = got if isinstance(got, str) and " " in got else repr(got)
        tail = f"; {remedy}" if remedy else ""
        super().__init__(f"{subject} must {rule}, got {shown}{tail}")

    def __reduce__(self) -> tuple[type, tuple[str, str, Any, str]]:
        return type(self), (self.subject, self.rule, self.got, self.remedy)


class Interrupted(Exception):
    """The user (or a STOP file) asked to stop; everything finished is on disk.

    Parameters
    ----------
    message : str
        What was saved.
    exit_code : int
        130 after SIGINT, 143 after SIGTERM, 0 after a STOP file.
    """

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        return type(self), (str(self), self.exit_code)


class Answered(Exception):
    """The command asked a question and has its answer: a good end, after which nothing else runs."""


def raise_faults(faults: Iterable[Exception], heading: str = "") -> None:
    """Raise every fault at once: one as itself, several as a numbered list, none not at all."""
    found = list(faults)
    if not found:
        return
    if len(found) == 1 and not heading:
        raise found[0]
    lines = [f"  {i}. {fault}" for i, fault in enumerate(found, start=1)]
    title = heading or f"{len(found)} faults"
    error = FinscaleError("\n".join([f"{title}:", *lines]))
    error.faults = tuple(found)
    raise error


def suggest(word: str, legal: Iterable[str]) -> str:
    """Return a remedy that names the nearest legal word, or lists the legal ones.

    Examples
    --------
    >>> suggest("budegt", ["budget", "horizon"])
    "did you mean 'budget'?"
    >>> suggest("zzz", ["budget", "horizon"])
    'use one of: budget, horizon'
    """
    words = sorted(legal)
    near = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {near[0]!r}?" if near else "use one of: " + ", ".join(words)


def user_fault(error: BaseException | None) -> str | None:
    """Return the message of the user's mistake behind an exception that a framework may have wrapped.

    Returns
    -------
    str or None
        None when no cause of ``error`` is a `FinscaleError`: then it is a fault of ours.
    """
    while error is not None:
        if isinstance(error, FinscaleError) or type(error).__name__ == "KedroCliError":
            return str(error)
        error = error.__cause__ or error.__context__
    return None
