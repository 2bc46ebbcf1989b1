"""A miniature block: one mind for every test of the room."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from finscale.longcontext.config import LongContextConfig, read_block

CONF = Path(__file__).parents[3] / "conf" / "base" / "parameters_long_context_eval.yml"


@pytest.fixture(scope="session")
def blocks() -> dict[str, Any]:
    return yaml.safe_load(CONF.read_text(encoding="utf-8"))["long_context_blocks"]


@pytest.fixture(scope="session")
def smoke(blocks: dict[str, Any]) -> LongContextConfig:
    return read_block("cpu_smoke", blocks)


@pytest.fixture(scope="session")
def demo(blocks: dict[str, Any]) -> LongContextConfig:
    return read_block("cpu_demo", blocks)
