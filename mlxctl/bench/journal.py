"""The `.jsonl` of a bench: every visit and run as it ends, so that a crash loses nothing. Written by the runner."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

from pydantic import TypeAdapter, ValidationError

from mlxctl.bench.records import End, Head, Line, Margin, Run, Visit
from mlxctl.errors import UsageError

_LINE: TypeAdapter[Line] = TypeAdapter(Line)


@dataclass(frozen=True, slots=True)
class Journal:
    """All lines of a journal, sorted by kind. `end` is None where the bench did not live to write it."""

    head: Head
    visits: tuple[Visit, ...]
    runs: tuple[Run, ...]
    end: End | None
    margins: tuple[Margin, ...] = ()


class JournalWriter:
    """Appends lines to `path`, each on disk before the next one begins. A context manager."""

    def __init__(self, path: Path, watch: Callable[[Line], None] = lambda line: None) -> None:
        self.path = path
        self.lines: list[Line] = []
        self._watch = watch
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        try:
            self._file = self.path.open("w", encoding="utf-8")
        except OSError as error:
            hint = "give a file in a folder that exists and is yours with -o"
            raise UsageError(f"cannot write {self.path}: {error.strerror}", hint=hint) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, line: Line) -> None:
        assert self._file is not None
        self._file.write(line.model_dump_json() + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.lines.append(line)
        self._watch(line)


def sort_lines(lines: list[Line]) -> Journal:
    """The journal of `lines`. Raises UsageError where the head is missing."""
    heads = [line for line in lines if isinstance(line, Head)]
    if len(heads) != 1:
        raise UsageError(f"a journal has one head, this one {len(heads)}", hint="give the .jsonl that bench wrote")
    return Journal(
        heads[0],
        tuple(line for line in lines if isinstance(line, Visit)),
        tuple(line for line in lines if isinstance(line, Run)),
        next((line for line in lines if isinstance(line, End)), None),
        tuple(line for line in lines if isinstance(line, Margin)),
    )


def read_journal(path: Path) -> Journal:
    """The journal in `path`; a last line that was cut off is left out. Raises UsageError."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    lines: list[Line] = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(_LINE.validate_json(text))
        except ValidationError as error:
            if number == len(texts):
                break
            what = error.errors()[0]["msg"]
            raise UsageError(f"{path}:{number} is no line of a bench journal: {what}") from None
    return sort_lines(lines)
