"""Log files of a cluster: one per node and one of the coordinator, each line stamped in UTC, rotated by size."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_FILE_BYTES = 8 << 20
TAIL_LINES = 12
STDERR = 2


def _formatter() -> logging.Formatter:
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    return formatter


def file_handler(path: Path) -> RotatingFileHandler:
    """A handler that stamps lines as `mlxctl logs` reads them and keeps one older file."""
    handler = RotatingFileHandler(path, maxBytes=MAX_FILE_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(_formatter())
    return handler


class StderrFollows(RotatingFileHandler):
    """Carries this process's stderr along: without it, after a rotation, the older file or none would get it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=MAX_FILE_BYTES, backupCount=1, encoding="utf-8")
        self.setFormatter(_formatter())
        self._take_stderr()

    def doRollover(self) -> None:
        """See RotatingFileHandler."""
        super().doRollover()
        self._take_stderr()

    def _take_stderr(self) -> None:
        assert self.stream is not None
        os.dup2(self.stream.fileno(), STDERR)


class NodeLog:
    """The log of one node's worker; remembers the last lines, which are shown with an error."""

    def __init__(self, path: Path) -> None:
        self._handler = file_handler(path)
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def write(self, line: str) -> None:
        self.tail.append(line)
        self._handler.handle(logging.LogRecord("worker", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        self._handler.close()
