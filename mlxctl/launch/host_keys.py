"""Host keys that are trusted, and where that is written: known_hosts files, ours included. Called by launch/ssh.py."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxctl.paths import known_hosts_file, make_home

USER_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
SYSTEM_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
DEFAULT_PORT = 22


@dataclass(frozen=True, slots=True)
class KnownHostsLine:
    """One entry as written, and where."""

    file: Path
    number: int
    text: str


def files(configured: Sequence[str]) -> tuple[Path, ...]:
    """The files to look into: those of the user's ssh configuration (else its defaults), then ours."""
    named = [Path(each).expanduser() for each in configured or (*USER_FILES, *SYSTEM_FILES)]
    return (*named, known_hosts_file())


def read_lines(paths: Iterable[Path]) -> list[KnownHostsLine]:
    """Every entry of `paths`; files that cannot be read hold none."""
    lines = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                lines.append(KnownHostsLine(path, number, line))
    return lines


def shown_host(host: str, port: int) -> str:
    """As known_hosts files and ssh-keygen write it: `host`, or `[host]:port` off the usual port."""
    return host if port == DEFAULT_PORT else f"[{host}]:{port}"


def record(host: str, port: int, key: str) -> None:
    """Append `key` (type and base64) of a new host to our own file."""
    make_home()
    descriptor = os.open(known_hosts_file(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with open(descriptor, "a", encoding="utf-8") as file:
        file.write(f"{shown_host(host, port)} {key}\n")
