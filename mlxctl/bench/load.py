"""Reports from disk, those of earlier versions brought up to the present one. Called by `bench compare` and `show`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlxctl.bench.report import SCHEMA, Report
from mlxctl.errors import UsageError

FAMILY = "mlxctl.bench/"
MAX_BYTES = 1 << 30

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
UPGRADES: Mapping[str, Upgrade] = {}
"""From a schema's name to what makes a document of the next version of it."""


def read_json(path: Path) -> Any:
    """The document in `path`. Raises UsageError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is larger than any report")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error


def load_report(path: Path) -> Report:
    """The report in `path`. Raises UsageError where it is none, or one of a newer mlxctl."""
    return parse_report(read_json(path), str(path))


def parse_report(document: Any, name: str) -> Report:
    """The report that `document` (of the file `name`) is, whatever version wrote it. Raises UsageError."""
    while isinstance(document, dict) and document.get("schema") in UPGRADES:
        document = UPGRADES[document["schema"]](document)
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        newer = isinstance(schema, str) and schema.startswith(FAMILY)
        hint = "a newer mlxctl wrote it: pip install -U mlxctl" if newer else "give a report that `mlxctl bench` wrote"
        raise UsageError(f"{name} is not a report of this version ({SCHEMA}) but {schema!r}", hint=hint)
    try:
        return Report.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{name} is no sound report: {where}: {first['msg']}") from None
