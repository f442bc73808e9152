"""A command on a terminal of its own: what a user types and sees. For tests of everything interactive."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

WAIT_S = 120.0  # a bound for a busy machine
# stdin's terminal becomes the controlling one, so that Ctrl-C arrives as a signal.
_MLXCTL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from mlxctl.cli.main import run
sys.exit(run(sys.argv[1:]))
"""
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>78])")


class PseudoTerminal:
    """`screen` is everything shown so far, without escape sequences; `raw` with them."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._bytes = b""
        self._seen = 0

    @property
    def raw(self) -> str:
        return self._bytes.decode(errors="replace")

    @property
    def screen(self) -> str:
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def enter(self, line: str) -> None:
        self.type(line + "\r")

    def press_ctrl_c(self) -> None:
        """As the terminal does it: to whatever is in front."""
        self.type("\x03")

    def expect(self, text: str) -> str:
        """Wait until `text` is shown after what was expected last; gives what was shown up to it."""
        until_s = time.monotonic() + WAIT_S
        while (end := self.screen.find(text, self._seen)) < 0:
            if not self._read(until_s - time.monotonic()):
                raise AssertionError(f"{text!r} never came; the screen:\n{self.screen}")
        shown = self.screen[self._seen : end + len(text)]
        self._seen = end + len(text)
        return shown

    def exit_code(self) -> int:
        """Wait for the end of the command."""
        until_s = time.monotonic() + WAIT_S
        while self._read(until_s - time.monotonic()):
            pass
        return self.process.wait(WAIT_S)

    def _read(self, timeout_s: float) -> bool:
        """False when the time is over or the command has closed the terminal."""
        if not select.select([self._master], [], [], max(timeout_s, 0))[0]:
            return False
        try:
            content = os.read(self._master, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            return False
        self._bytes += content
        return bool(content)


@contextmanager
def on_terminal(
    *arguments: str, columns: int = 100, lines: int = 40, environment: Mapping[str, str] | None = None
) -> Iterator[PseudoTerminal]:
    """`mlxctl` with `arguments` on a terminal of that size; killed at the end if it still runs."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", _MLXCTL, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **(environment or {})},
    )
    os.close(slave)
    try:
        yield PseudoTerminal(process, master)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(WAIT_S)
        os.close(master)
