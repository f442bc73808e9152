"""Keeps a Mac awake while it serves, with macOS's own `caffeinate`. Called by the coordinator and by every worker.

Nothing is set that would have to be set back: the assertion ends with `caffeinate`, which ends with its parent.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

PROGRAM = "caffeinate"
FOLDER = "/usr/bin"


def awake_command(platform: str, pid: int, search_path: str) -> tuple[str, ...] | None:
    """What keeps this machine awake while process `pid` lives; None where it is no Mac or has no such program.

    -i: no idle sleep; -s: no sleep at all on mains; -m: disks too. The display may sleep.
    """
    program = shutil.which(PROGRAM, path=f"{search_path}{os.pathsep}{FOLDER}")
    if platform != "darwin" or program is None:
        return None
    return (program, "-i", "-m", "-s", "-w", str(pid))


@contextmanager
def kept_awake(platform: str = sys.platform) -> Iterator[None]:
    """Awake as long as the context; where it cannot be done, it is a line in the log."""
    command = awake_command(platform, os.getpid(), os.environ.get("PATH", ""))
    process = _start(command) if command is not None else None
    try:
        yield
    finally:
        if process is not None:
            process.terminate()
            process.wait()


def _start(command: tuple[str, ...]) -> subprocess.Popen[bytes] | None:
    nowhere = subprocess.DEVNULL
    try:
        return subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    except OSError as error:
        log.warning("this machine may fall asleep: %s cannot be run: %s", command[0], error.strerror)
        return None
