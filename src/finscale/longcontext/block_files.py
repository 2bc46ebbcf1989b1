"""Find one block in YAML: in a file or a text, alone or among others. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from finscale.core.errors import Fault, suggest

__all__ = ["block_of"]

_BLOCKS = "long_context_blocks"


def block_of(source: str | Path, name: str | None = None) -> tuple[str, Mapping[str, Any]]:
    """Return how faults shall name a block, and its settings.

    Parameters
    ----------
    source : str or Path
        A file; a text is read as YAML itself unless it is one line that ends in ``.yml`` or ``.yaml``.
    name : str or None
        Of the block among several, under ``long_context_blocks`` or at the top; None where there is one.

    Raises
    ------
    Fault
        When the file cannot be read, is no YAML, or has no such block.
    """
    where, document = _document(source)
    several = document.get(_BLOCKS, document if name is not None else None)
    if several is None:
        return "", document
    blocks = _mapping(f"{where} {_BLOCKS}", several)
    if name is None and len(blocks) != 1:
        raise Fault("name", f"be given for the blocks of {where}", "nothing", suggest("", blocks))
    chosen = next(iter(blocks)) if name is None else name
    if chosen not in blocks:
        raise Fault("name", f"be a block of {where}", chosen, suggest(chosen, blocks))
    subject = f"{_BLOCKS}.{chosen}"
    return subject, _mapping(subject, blocks[chosen])


def _document(source: str | Path) -> tuple[str, Mapping[str, Any]]:
    where, text = "the text", str(source)
    if isinstance(source, Path) or ("\n" not in source and source.endswith((".yml", ".yaml"))):
        where, text = str(source), _read(Path(source))
    try:
        return where, _mapping(where, yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise Fault(where, "be valid YAML", " ".join(str(error).split()), "mend it there") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Fault(str(path), "be a readable UTF-8 file", reason, "check the path") from None


def _mapping(subject: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        rule = "be a mapping of settings"
        raise Fault(subject, rule, type(value).__name__, "write <setting>: <value>")
    return value
