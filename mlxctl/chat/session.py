"""The REPL's state and what its slash commands do to it, free of any terminal. Used by the REPL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from mlxctl.chat.answer import Answer
from mlxctl.chat.client import ChatClient, Served
from mlxctl.chat.commands import USAGES, Command
from mlxctl.chat.conversation import Conversation
from mlxctl.chat.conversation_file import load, save
from mlxctl.chat.figures import Totals, footer, stage_lines
from mlxctl.chat.settings import Settings, show
from mlxctl.errors import MlxctlError, UsageError


class Signal(Enum):
    """What the REPL does after a command, if not print a text."""

    ANSWER = "answer the last message"
    LEAVE = "leave"


@dataclass(slots=True)
class Session:
    """One sitting: the conversation, what answers it, and the figures so far."""

    client: ChatClient
    served: Served
    conversation: Conversation
    last_answer: Answer | None = None
    totals: Totals = field(default_factory=Totals)

    def perform(self, command: Command) -> str | Signal:
        """Carry out a slash command: the text to print, or a Signal. Raises UsageError."""
        actions: dict[str, Callable[[str], str | Signal]] = {
            "/help": lambda _: _help(),
            "/system": self._system,
            "/set": self._set,
            "/show": lambda _: "\n".join(self._overview()),
            "/save": self._save,
            "/load": self._load,
            "/clear": lambda _: self._clear(),
            "/retry": lambda _: self._retry(),
            "/stats": lambda _: "\n".join(self._stats()),
            "/bye": lambda _: Signal.LEAVE,
        }
        return actions[command.name](command.argument)

    def finish(self, answer: Answer, *, stopped: bool = False) -> None:
        """Take an answer into the conversation; what came before a Ctrl-C stays too, so that "go on" has a sense."""
        if answer.text or not stopped:
            self.conversation = self.conversation.answered(answer.text, answer.reasoning)
        self.last_answer = answer
        if not stopped:
            self.totals = self.totals.plus(answer)

    def _system(self, text: str) -> str:
        if not text:
            return self.conversation.system or "no system prompt"
        system = "" if text in ('""', "''") else text
        self.conversation = replace(self.conversation, system=system)
        return "system prompt set" if system else "system prompt removed"

    def _set(self, argument: str) -> str:
        settings = self.conversation.settings
        if not argument:
            return "\n".join(_settings_lines(settings))
        name, _, value = argument.partition(" ")
        if not value.strip():
            raise UsageError(f"/set {name} needs a value", hint="/set NAME VALUE; /set alone shows all")
        settings = settings.with_value(name, value.strip())
        self.conversation = replace(self.conversation, settings=settings)
        return f"{name} is {show(settings.as_dict()[name])}"

    def _overview(self) -> Iterator[str]:
        yield f"model       {self.served.model}"
        yield f"endpoint    {self.client.base_url}"
        if self.served.cluster is not None:
            yield f"cluster     {self.served.cluster}, {self.served.stages} stages, context {self.served.context}"
        yield f"system      {self.conversation.system or '(none)'}"
        yield from _settings_lines(self.conversation.settings)
        for message in self.conversation.messages:
            yield f"\n{message.role}: {message.content.strip()}"

    def _save(self, argument: str) -> str:
        path = _path(argument, "/save")
        save(self.conversation, path, self.served.model)
        return f"saved {len(self.conversation.messages)} messages to {path}"

    def _load(self, argument: str) -> str:
        self.conversation = load(_path(argument, "/load"))
        self.last_answer = None
        return f"loaded {len(self.conversation.messages)} messages; /show shows them"

    def _clear(self) -> str:
        self.conversation = self.conversation.cleared()
        self.last_answer = None
        return "the conversation is forgotten"

    def _retry(self) -> Signal:
        reopened = self.conversation.reopened()
        if reopened is None:
            raise UsageError("there is no message to answer again")
        self.conversation = reopened
        return Signal.ANSWER

    def _stats(self) -> Iterator[str]:
        if self.last_answer is not None:
            yield f"last answer {footer(self.last_answer, self.served)}"
        yield f"all answers {self.totals.line()}"
        if self.served.cluster is None:
            return
        try:
            yield from stage_lines(self.client.status())
        except MlxctlError as error:
            yield f"stages      {error.line}"


def _help() -> str:
    rows = [(f"{usage.name} {usage.arguments}", usage.line) for usage in USAGES]
    lines = [f"{left:<19} {right}" for left, right in rows]
    lines.append('Esc Enter, a trailing \\ or """ … """ make another line.')
    lines.append("Ctrl-C stops an answer; what came of it stays in the conversation.")
    return "\n".join(lines)


def _settings_lines(settings: Settings) -> list[str]:
    return [f"{name:<11} {show(value)}" for name, value in settings.as_dict().items()]


def _path(argument: str, command: str) -> Path:
    if not argument:
        raise UsageError(f"{command} needs a file name")
    return Path(argument).expanduser()
