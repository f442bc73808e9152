"""A conversation as a value: messages, system prompt, settings, and how turns change it. Pure; used by the REPL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mlxctl.chat.settings import Settings

Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of one side. `reasoning` is what the model thought; it is kept and saved, never sent back."""

    role: Role
    content: str
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Sides alternate, the user begins. A last message of the user's has not been answered (a failure, a Ctrl-C)."""

    messages: tuple[Message, ...] = ()
    system: str = ""
    settings: Settings = field(default_factory=Settings)

    @property
    def unanswered(self) -> bool:
        return bool(self.messages) and self.messages[-1].role == "user"

    def ask(self, text: str) -> Conversation:
        """The conversation with the user's next message, in place of one that was never answered."""
        before = self.messages[:-1] if self.unanswered else self.messages
        return replace(self, messages=(*before, Message("user", text)))

    def answered(self, text: str, reasoning: str = "") -> Conversation:
        """The conversation with the model's answer to the last message."""
        return replace(self, messages=(*self.messages, Message("assistant", text, reasoning)))

    def reopened(self) -> Conversation | None:
        """The conversation with its last question unanswered again, or None if there never was one."""
        if not self.messages:
            return None
        return self if self.unanswered else replace(self, messages=self.messages[:-1])

    def cleared(self) -> Conversation:
        """No messages; system prompt and settings stay."""
        return replace(self, messages=())

    def payload(self) -> list[Mapping[str, str]]:
        """The `messages` of a chat completion request."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *({"role": message.role, "content": message.content} for message in self.messages)]
