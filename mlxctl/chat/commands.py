"""The REPL's slash commands: their table, and one typed line parsed into a command or a message. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mlxctl.chat.nearest import nearest
from mlxctl.errors import UsageError


@dataclass(frozen=True, slots=True)
class Usage:
    """One row of `/help`."""

    name: str
    arguments: str
    line: str


USAGES = (
    Usage("/help", "", "this list"),
    Usage("/system", "[TEXT]", 'set or show the system prompt; "" removes it'),
    Usage("/set", "[NAME VALUE]", "set or show how answers are made; VALUE may be default"),
    Usage("/show", "", "model, endpoint, settings and the conversation so far"),
    Usage("/save", "FILE", "write the conversation to FILE"),
    Usage("/load", "FILE", "go on with the conversation in FILE"),
    Usage("/clear", "", "forget the conversation, not prompt and settings"),
    Usage("/retry", "", "answer the last message again"),
    Usage("/stats", "", "speed and tokens, and the cluster's stages"),
    Usage("/bye", "", "leave (also Ctrl-D)"),
)
NAMES = tuple(usage.name for usage in USAGES)
_SYNONYMS = {"/exit": "/bye", "/quit": "/bye", "/?": "/help"}


@dataclass(frozen=True, slots=True)
class Command:
    """`/name argument`, the name as in USAGES."""

    name: str
    argument: str


def parse(text: str) -> Command | str:
    """A Command if `text` starts with a slash, else the message to send. Raises UsageError for unknown commands."""
    if not text.startswith("/"):
        return text.strip()
    word, _, argument = text.strip().partition(" ")
    name = _SYNONYMS.get(word, word)
    if name in NAMES:
        return Command(name, argument.strip())
    near = nearest(word[1:], (known[1:] for known in (*NAMES, *_SYNONYMS)))
    names = dict.fromkeys(_SYNONYMS.get(f"/{each}", f"/{each}") for each in near)
    meant = f"you may mean {' or '.join(names)}" if names else "/help lists them"
    raise UsageError(f"no command is called {word}", hint=f"{meant}; a space before the slash sends it as text.")
