"""The data files: word lists and phrases, read once. Used by every module of the generator."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

DATA_DIR = Path(__file__).parent / "data"


@cache
def phrases(topic: str) -> dict[str, Any]:
    """The file data/<topic>.yaml: names to phrases, or to groups of them (the file shows which)."""
    document: dict[str, Any] = yaml.safe_load((DATA_DIR / f"{topic}.yaml").read_text(encoding="utf-8"))
    return document


@cache
def words(kind: str) -> list[str]:
    """A word list of data/words.yaml."""
    entry = phrases("words")[kind]
    return entry.split() if isinstance(entry, str) else list(entry)
