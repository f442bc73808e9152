"""The file with the API key: read by the coordinator and its clients, made by the coordinator at first use."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
from pathlib import Path

from mlxctl.errors import UsageError

MIN_KEY_CHARS = 16
_KEY_BYTES = 32


def read_key(path: Path) -> str:
    """The key in `path`. Raises UsageError where others can read it, it cannot be read or holds no key."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(1 << 16)
        key = content.decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not plain text"
        raise UsageError(f"cannot read api_key_file {path}: {reason}", hint=_remake(path)) from error
    if mode & 0o077:
        raise UsageError(f"api_key_file {path} can be read by other users", hint=f"chmod 600 {shlex.quote(str(path))}")
    if not key or not key.isprintable() or " " in key:
        raise UsageError(f"api_key_file {path} holds no usable key", hint=_remake(path))
    return key


def serving_key(path: Path) -> str:
    """The key to serve with: that of `path`, made if there is no such file. Raises UsageError, also for a weak key."""
    if not path.exists():
        _make(path)
    key = read_key(path)
    if len(key) < MIN_KEY_CHARS:
        message = f"the key in {path} has {len(key)} characters, too easy to guess: at least {MIN_KEY_CHARS}"
        raise UsageError(message, hint=_remake(path))
    return key


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        message = f"cannot make api_key_file {path}: {error.strerror}"
        raise UsageError(message, hint="name another file in api.api_key_file") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(_KEY_BYTES) + "\n")


def _remake(path: Path) -> str:
    return f"rm -f {shlex.quote(str(path))}: the next `mlxctl up` makes a new key there"
