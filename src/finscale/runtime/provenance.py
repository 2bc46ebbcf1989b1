"""Where a result comes from: commit, dirty flag, environment."""

import functools
import subprocess
from pathlib import Path

__all__ = ["commit_of"]


@functools.cache
def commit_of(project: Path) -> tuple[str, bool]:
    """Return the short commit of ``project`` and whether its files differ from it.

    Outside a git checkout the commit is ``"unknown"`` and the tree counts as dirty.
    """
    try:
        commit = _git(project, "rev-parse", "--short=12", "HEAD")
        return commit, bool(_git(project, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


def _git(project: Path, *arguments: str) -> str:
    finished = subprocess.run(
        ["git", *arguments], cwd=project, capture_output=True, text=True, check=True, timeout=10
    )
    return finished.stdout.strip()
