"""Typed input: prompt, history, several lines, completion of commands, toolbar; quiet keys during answers.

The only importer of prompt_toolkit, which is slow to import. Used by `mlxctl chat` for the REPL.
"""

from __future__ import annotations

import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from mlxctl.chat.commands import NAMES
from mlxctl.chat.entry import is_complete


class Terminal:
    """Reads what the user types; `toolbar` is asked anew for each prompt."""

    def __init__(self, history_file: Path, toolbar: Callable[[], str]) -> None:
        self._session: PromptSession[str] = PromptSession(
            ">>> ",
            multiline=True,
            prompt_continuation="... ",
            key_bindings=_key_bindings(),
            history=_history(history_file),
            completer=WordCompleter(list(NAMES), sentence=True),
            complete_while_typing=False,
            bottom_toolbar=lambda: f" {toolbar()} ",
        )

    def read(self) -> str:
        """One entry; Ctrl-C drops what was typed. Raises EOFError (Ctrl-D), KeyboardInterrupt (Ctrl-C on nothing)."""
        return self._session.prompt()


def _key_bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.newline(copy_margin=False)

    @bindings.add("escape", "enter")
    def escape_enter(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    @bindings.add("c-c")
    def ctrl_c(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt())

    return bindings


def _history(path: Path) -> History:
    """The history in `path`, for the owner's eyes only; in memory where that file cannot be written."""
    try:
        path.touch(mode=0o600)
        with path.open("ab"):
            return FileHistory(path)
    except OSError:
        return InMemoryHistory()


@contextmanager
def keys_unechoed() -> Iterator[None]:
    """What is typed during an answer waits for the next prompt instead of landing in the middle of the text."""
    try:
        before = termios.tcgetattr(sys.stdin)
    except (termios.error, ValueError, OSError):
        yield
        return
    silent = termios.tcgetattr(sys.stdin)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
