"""The `.jsonl` of `bench links`: every figure as it is measured, so that a crash loses nothing. Used by the command.

The first line is a report without figures; each later one adds a transport, a pair or a collective to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self, TextIO

from pydantic import ValidationError

from mlxctl.bench.links_report import CollectiveResult, LinksReport, PairResult, TransportState, verdicts
from mlxctl.errors import UsageError

SCHEMA = "mlxctl.links-journal/1"
Entry = TransportState | PairResult | CollectiveResult
CRASHED = "it did not live to its end"
KINDS: Mapping[str, type[Entry]] = {"transports": TransportState, "pairs": PairResult, "collectives": CollectiveResult}


class LinksJournal:
    """Appends lines to `path`, each on disk before the next. A context manager. Raises UsageError on entering."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("w", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"cannot write {self._path}: {error.strerror}", hint="give another file with -o"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def begin(self, report: LinksReport) -> None:
        """Write the head: `report` with what is known before anything is measured."""
        self._write({"journal": SCHEMA, "report": report.model_dump(mode="json", by_alias=True)})

    def add(self, entry: Entry) -> None:
        """Write one figure, or the state of a transport."""
        kind = next(name for name, made in KINDS.items() if isinstance(entry, made))
        self._write({"adds_to": kind, "entry": entry.model_dump(mode="json")})

    def _write(self, line: object) -> None:
        assert self._file is not None
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_links_journal(path: Path) -> LinksReport | None:
    """The report of what is in `path`; None if it is no journal of links. Raises UsageError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    try:
        head = json.loads(lines[0]) if lines else None
        if not isinstance(head, dict) or head.get("journal") != SCHEMA:
            return None
        return _rebuilt(head, lines[1:])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise UsageError(f"{path} is no sound journal of links: {error}".splitlines()[0]) from None


def _rebuilt(head: dict[str, object], lines: Sequence[str]) -> LinksReport:
    """A last line that was cut off is left out."""
    found: dict[str, list[Entry]] = {kind: [] for kind in KINDS}
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
        except ValueError:
            if number == len(lines):
                break
            raise
        found[line["adds_to"]].append(KINDS[line["adds_to"]].model_validate(line["entry"]))
    update = {kind: tuple(entries) for kind, entries in found.items()}
    report = LinksReport.model_validate(head["report"])
    report = report.model_copy(update={**update, "how_it_ended": "failed", "message": CRASHED})
    return report.model_copy(update={"verdicts": verdicts(report)})
