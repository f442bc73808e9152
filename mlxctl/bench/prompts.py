"""Prompts of an exact number of tokens, equal for equal seeds, different from the first word. For measure."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from mlxctl.bench.records import Workload
from mlxctl.tokenizer import Tokenizer

Message = Mapping[str, str]
Conversation = Sequence[Message]

FILLERS = (" a", " I", " the", ".", "!", " x", "7")
WORDS = (
    "the", "river", "ran", "past", "old", "stone", "walls", "and", "small", "green", "fields", "while", "people",
    "in", "town", "sold", "bread", "fish", "apples", "paper", "lamps", "blue", "cloth", "every", "morning",
    "before", "noon", "someone", "asked", "how", "far", "north", "one", "could", "walk", "winter", "without",
    "boots", "a", "horse", "or", "fire", "nobody", "knew", "but", "many", "told", "stories", "about", "snow",
    "wolves", "ships", "iron", "roads", "silver", "coins", "deep", "water", "quiet", "houses", "long", "tables",
    "warm", "soup", "two", "brothers", "three", "sisters", "seven", "letters", "nine", "doors", "open", "window"
)  # fmt: skip


def load_tokenizer(model: str) -> Tokenizer:
    """The tokenizer of `model` (a folder, hub id, `canary` …). Raises CheckpointError."""
    from mlxctl.checkpoint import resolve_model

    return Tokenizer.load(resolve_model(model))


class Prompter:
    """Makes the conversations of workloads. Without a tokenizer (a foreign server) lengths are about right."""

    def __init__(self, seed: int, tokenizer: Tokenizer | None) -> None:
        self._seed = seed
        self._tokenizer = tokenizer

    def conversation(self, workload: Workload, index: int, stream: int = 0) -> list[Message]:
        """What stream `stream` of run `index` asks: `prompt_tokens` long once it is through the chat template."""
        draw = self.draw(workload, index, stream)
        return [{"role": "user", "content": self._text(draw, workload.prompt_tokens, self._rendered_tokens)}]

    def turn(self, workload: Workload, index: int, turn: int) -> Message:
        """What the user says in turn `turn` of a chat: `prompt_tokens` long by itself."""
        draw = self.draw(workload, index, turn)
        return {"role": "user", "content": self._text(draw, workload.prompt_tokens, self._plain_tokens)}

    def draw(self, workload: Workload, index: int, part: int) -> random.Random:
        """Random numbers that belong to one part of one run, whatever else is drawn."""
        return random.Random(f"{self._seed}/{workload.id}/{index}/{part}")  # noqa: S311 - no secret

    def count(self, text: str) -> int | None:
        """Tokens of `text`; None without a tokenizer."""
        return None if self._tokenizer is None else len(self._tokenizer.encode(text))

    @cached_property
    def _template_tokens(self) -> int:
        """What the chat template adds to a message."""
        assert self._tokenizer is not None
        rendered = self._tokenizer.render([{"role": "user", "content": WORDS[0]}]).ids
        return len(rendered) - len(self._tokenizer.encode(WORDS[0]))

    def _rendered_tokens(self, text: str) -> int:
        return self._template_tokens + self._plain_tokens(text)

    def _plain_tokens(self, text: str) -> int:
        assert self._tokenizer is not None
        return len(self._tokenizer.encode(text))

    def _text(self, draw: random.Random, tokens: int, count: Callable[[str], int]) -> str:
        words = [draw.choice(WORDS) for _ in range(tokens)]
        return " ".join(words) if self._tokenizer is None else fitted(words, tokens, count)


def fitted(words: Sequence[str], tokens: int, count: Callable[[str], int]) -> str:
    """As many of `words`, and fillers, as make `tokens` by `count`, or as few less as possible. At least one word."""
    low, high = 1, len(words)
    while low < high:  # the longest beginning that is not too long
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(" ".join(words[:middle])) <= tokens else (low, middle - 1)
    text = " ".join(words[:low])
    while (length := count(text)) < tokens:
        longer = next((text + filler for filler in FILLERS if length < count(text + filler) <= tokens), None)
        if longer is None:
            break
        text = longer
    return text


def fingerprint(text: str) -> str:
    """SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
