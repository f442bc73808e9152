"""What every verb prints with: consoles that obey NO_COLOR and pipes, JSON, and figures a person can read."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_COLUMNS = 200  # nothing is cut off on its way to a file


def is_fancy(stream: TextIO) -> bool:
    """Whether colour, spinners and redrawing are welcome: a terminal that can, and a user who did not say NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def console(stream: TextIO | None = None) -> Console:
    """A console on `stream` (default: stdout), bare of any escape sequence unless the stream `is_fancy`."""
    from rich.console import Console

    target = stream or sys.stdout
    fancy = is_fancy(target)
    columns = None if target.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS
    return Console(file=target, force_terminal=fancy, no_color=not fancy, width=columns, highlight=False)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Around what writes to stdout: a reader that has seen enough (`| head`) ends it, and that is no failure."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # the interpreter flushes once more at its end
        os.close(nowhere)


def say(line: str) -> None:
    """One line of progress or advice, on stderr."""
    print(line, file=sys.stderr, flush=True)


def print_json(document: Mapping[str, Any], *, one_line: bool = False) -> None:
    """`document` on stdout; `one_line` where several follow each other."""
    print(json.dumps(document, ensure_ascii=False, indent=None if one_line else 2), flush=True)


def format_bytes(count_bytes: float) -> str:
    """1536 → "1.5 KiB"."""
    value = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_duration(seconds_s: float) -> str:
    """0.0421 → "42 ms", 12.34 → "12.3 s", 3661 → "1 h 01 min", 200000 → "2 d 7 h"."""
    if seconds_s < 1:
        return f"{seconds_s * 1000:.0f} ms"
    if seconds_s < 60:
        return f"{seconds_s:.1f} s"
    minutes, seconds = divmod(int(seconds_s), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def format_rate(tokens_per_s: float) -> str:
    """12.345 → "12.3 tok/s"."""
    return f"{tokens_per_s:.1f} tok/s"
