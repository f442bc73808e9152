"""The hand-written turns of data/written.yaml, and what is a right answer. Called by evaluate_written and overlap."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlxctl.canary.training.greedy import tool_calls
from mlxctl.canary.training.phrases import phrases

_WRITTEN = phrases("written")
_FIELDS = ("answer", "matches", "says", "contains", "never", "json", "calls")


@dataclass(frozen=True, slots=True)
class Check:
    """What an answer must be; the head of data/written.yaml explains the rules, all of which must hold."""

    rules: dict[str, Any]

    @classmethod
    def parse(cls, entry: dict[str, Any]) -> Check:
        """The rules of a turn, or of the check that it names."""
        source = _WRITTEN["checks"][entry["like"]] if "like" in entry else entry
        return cls({field: source[field] for field in _FIELDS if field in source})

    def holds(self, answer: str) -> bool:
        """Whether `answer`, without its thought, is right."""
        try:
            return all(_RULES[field](answer, expected) for field, expected in self.rules.items())
        except ValueError:
            return False


def _says(answer: str, words: Sequence[str]) -> bool:
    return all(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE) for word in words)


_RULES: dict[str, Callable[[str, Any], bool]] = {
    "answer": lambda answer, expected: answer == expected,
    "matches": lambda answer, pattern: re.search(pattern, answer) is not None,
    "says": _says,
    "contains": lambda answer, texts: all(text in answer for text in texts),
    "never": lambda answer, texts: not any(text.lower() in answer.lower() for text in texts),
    "json": lambda answer, expected: bool(json.loads(answer)) if expected == "any" else json.loads(answer) == expected,
    "calls": lambda answer, expected: tool_calls(answer) == expected,
}


@dataclass(frozen=True, slots=True)
class WrittenTurn:
    """What the user says, or what the tools return, and what must come back."""

    messages: list[dict[str, Any]]
    check: Check

    @classmethod
    def parse(cls, entry: dict[str, Any]) -> WrittenTurn:
        """One turn of the file."""
        if "results" in entry:
            messages = [{"role": "tool", "content": result} for result in entry["results"]]
        else:
            messages = [{"role": "user", "content": _text(entry["user"])}]
        return cls(messages, Check.parse(entry))


def _text(user: str | list[Any]) -> str:
    pieces = [user] if isinstance(user, str) else user
    return "".join(
        piece if isinstance(piece, str) else _WRITTEN["fillers"][piece["filler"]] * piece["times"] for piece in pieces
    )


@dataclass(frozen=True, slots=True)
class WrittenDialogue:
    """Turns of one dialogue, with what is in force for all of them."""

    section: str
    turns: list[WrittenTurn]
    system: str | None
    tools: list[dict[str, Any]]
    thinks: bool


def written_dialogues() -> Iterator[WrittenDialogue]:
    """All dialogues, in the order of the file."""
    for entry in _WRITTEN["dialogues"]:
        turns = [WrittenTurn.parse(turn) for turn in entry["turns"]]
        tools = [_WRITTEN["tools"][name] for name in entry.get("tools", [])]
        for part in [[turn] for turn in turns] if entry.get("apart") else [turns]:
            yield WrittenDialogue(entry["section"], part, entry.get("system"), tools, entry.get("thinking", False))
