"""Hosts that the user's ssh knows by name, for completion. Pure but for reading the files; called by `mlxctl init`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mlxctl.launch import host_keys

_KEYWORD = re.compile(r"\s*(\w+)[\s=]+(.*)")
_MAX_DEPTH = 8  # of files that include files


def known_names(folder: Path | None = None) -> tuple[str, ...]:
    """Aliases of ~/.ssh/config and hosts of known_hosts (those that are not hashed), each once, in order."""
    ssh = folder or Path("~/.ssh").expanduser()
    lines = host_keys.read_lines([ssh / "known_hosts", ssh / "known_hosts2"])
    names = [*_aliases(ssh / "config", ssh, 0), *(name for line in lines for name in _hosts(line.text))]
    return tuple(dict.fromkeys(names))


def _aliases(path: Path, ssh: Path, depth: int) -> Iterator[str]:
    """Names after `Host`, without patterns; files that cannot be read have none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        found = _KEYWORD.fullmatch(line.split("#", 1)[0].rstrip())
        if found is None:
            continue
        words = found[2].replace('"', "").split()
        if found[1].casefold() == "host":
            yield from (word for word in words if not set(word) & set("*?!"))
        elif found[1].casefold() == "include" and depth < _MAX_DEPTH:
            for word in words:
                for included in sorted(ssh.glob(_below(word, ssh))):
                    yield from _aliases(included, ssh, depth + 1)


def _below(pattern: str, ssh: Path) -> str:
    """An Include's pattern as seen from ~/.ssh, where relative ones are meant from."""
    path = Path(pattern).expanduser()
    return str(path.relative_to(ssh)) if path.is_relative_to(ssh) else str(path).lstrip("/")


def _hosts(line: str) -> Iterator[str]:
    """Hosts of a known_hosts line: not revoked ones, authorities' patterns, hashes; `[host]:port` as host:port."""
    first = line.split()[0]
    if first.startswith(("@", "|")):
        return
    for name in first.split(","):
        if not set(name) & set("*?!"):
            yield re.sub(r"^\[(.*)\]:", r"\1:", name)
