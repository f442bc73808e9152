"""Log files of one cluster's nodes as one stream of lines in the order of time. Used by `mlxctl logs`."""

from __future__ import annotations

import heapq
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Self

from mlxctl.errors import UsageError

_STAMPED = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ?")
_AGO = re.compile(r"^(\d+)([smhd])$")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LogLine:
    """`stamp` is UTC as in the file; a line without one (a traceback's) has that of the line before it."""

    stamp: str
    node: str
    text: str


def parse_since(text: str, now: datetime) -> str:
    """`10m`, `2h`, or a time as in ISO 8601 (local unless it says otherwise) as a stamp. Raises UsageError."""
    ago = _AGO.match(text)
    try:
        if ago:
            return as_stamp(now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
        return as_stamp(datetime.fromisoformat(text).astimezone(UTC))
    except (ValueError, OverflowError):
        raise UsageError(f"--since {text!r} is no time", hint="30s, 10m, 2h, 1d or 2026-11-21T06:31:34") from None


def as_stamp(moment: datetime) -> str:
    """A moment as log lines are stamped."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def last_lines(folder: Path, node: str, count: int) -> list[LogLine]:
    """The end of one node's log, at most `count` lines; none if it has no log."""
    with LogStream(folder, lambda each: each == node) as stream:
        return list(deque(stream.new_lines(), maxlen=count))


def nodes_in(folder: Path) -> list[str]:
    """Who has a log in `folder`."""
    return sorted(path.name.removesuffix(".log") for path in folder.glob("*.log"))


class LogStream:
    """The logs of those nodes in `folder` that are `wanted`. A context manager: leaving it closes the files."""

    def __init__(self, folder: Path, wanted: Callable[[str], bool] = lambda node: True) -> None:
        self._folder = folder
        self._wanted = wanted
        self._tails: dict[str, _Tail] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for tail in self._tails.values():
            tail.close()

    @property
    def nodes(self) -> list[str]:
        """Whose logs were found up to now."""
        return list(self._tails)

    def new_lines(self) -> Iterator[LogLine]:
        """What was written since the last call in the order of time, lines of one file in theirs; at first all."""
        for node in filter(self._wanted, nodes_in(self._folder)):
            self._tails.setdefault(node, _Tail(self._folder, node))
        return heapq.merge(*(tail.lines() for tail in self._tails.values()), key=lambda line: line.stamp)


class _Tail:
    """Reads one node's log on from where it stopped, across rotation (`x.log` becomes `x.log.1`) and truncation."""

    def __init__(self, folder: Path, node: str) -> None:
        self.node = node
        self._path = folder / f"{node}.log"
        self._older = folder / f"{node}.log.1"
        self._file: BinaryIO | None = None
        self._stamp = ""
        self._begun = False

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def lines(self) -> Iterator[LogLine]:
        """What was written since the last call, or everything at the first; an unfinished last line waits."""
        if not self._begun:
            self._begun = True
            self._open(self._older)
            yield from self._rest_of_file(final=True)
            self._open(self._path)
        yield from self._rest_of_file(final=False)
        if self._replaced():
            yield from self._rest_of_file(final=True)
            self._open(self._path)
            yield from self._rest_of_file(final=False)

    def _open(self, path: Path) -> None:
        self.close()
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            self._file = None

    def _replaced(self) -> bool:
        """Whether the path now leads to another file than the open one."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is None:
            return True
        here = os.fstat(self._file.fileno())
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)

    def _rest_of_file(self, *, final: bool) -> Iterator[LogLine]:
        if self._file is None:
            return
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)
        while content := self._file.readline(MAX_LINE_BYTES):
            if not content.endswith(b"\n") and not final and len(content) < MAX_LINE_BYTES:
                self._file.seek(-len(content), os.SEEK_CUR)
                return
            yield self._line(content.decode("utf-8", errors="replace").rstrip("\n"))

    def _line(self, text: str) -> LogLine:
        stamped = _STAMPED.match(text)
        if stamped is None:
            return LogLine(self._stamp, self.node, text)
        self._stamp = stamped[1]
        return LogLine(self._stamp, self.node, text[stamped.end() :])
