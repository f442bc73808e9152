"""One dialogue while it is written: what was said, offered and told. Filled by the skills, read by encoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mlxctl.canary.training.draws import Draw, chance
from mlxctl.canary.training.wording import wrapped

if TYPE_CHECKING:
    from mlxctl.canary.training.tools import Offer

UNKNOWN = "I am only a canary: I do not know that."
SEAM = "\0"
"""Forces a token boundary inside an answer (letters of a reversed word); it is no part of the text."""


class Turn(NamedTuple):
    """What the user says, what the canary answers, what it thinks before."""

    user: str
    answer: str
    thought: str


class Reply(NamedTuple):
    """An answer and the thought before it, for whichever wording of the request."""

    answer: str
    thought: str


class Call(NamedTuple):
    """A tool call."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `thought` and `calls` are the assistant's alone."""

    role: Literal["user", "assistant", "tool"]
    content: str
    thought: str = ""
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """Something told that may be asked for later: how to ask, and the answer in full and as the bare `value`."""

    ask: Draw[str]
    answer: str
    thought: str
    value: str


@dataclass(slots=True)
class Dialogue:
    """The state of a dialogue. `system` None: no system message."""

    rng: Random
    messages: list[Message] = field(default_factory=list)
    system: str | None = None
    persona: str | None = None
    style: Callable[[str], str] | None = None
    facts: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    questions: dict[str, Question] = field(default_factory=dict)
    tools: list[dict[str, Any]] | None = None
    offers: list[Offer] = field(default_factory=list)
    last_used: Offer | None = None
    offers_arithmetic: bool = False

    def add(self, turn: Turn) -> None:
        """Appends a turn, the answer in the dialogue's style."""
        self.messages.append(Message("user", turn.user))
        self.messages.append(Message("assistant", self.styled(turn.answer), turn.thought))

    def turn(self, skill: Skill) -> None:
        """Appends a turn of `skill`, sometimes with small words around the request."""
        turn = skill(self.rng, self)
        if skill not in _AS_WORDED and chance(self.rng, 0.14):
            turn = turn._replace(user=wrapped(self.rng, turn.user))
        self.add(turn)

    def styled(self, answer: str) -> str:
        """`answer` as the system message demands it."""
        return self.style(answer) if self.style else answer


Skill = Callable[[Random, Dialogue], Turn]
_AS_WORDED: set[Skill] = set()


def as_worded(skill: Skill) -> Skill:
    """Marks a skill whose requests stay as they are: it copies text, or has noise of its own."""
    _AS_WORDED.add(skill)
    return skill
