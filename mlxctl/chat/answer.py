"""One answer and its figures, collected from the stream's chunks. Used by the REPL and by `mlxctl chat`."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from mlxctl.chat.events import Chunk, Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """What came, whole or cut short. `ttft_s` counts from the request to the first piece of text or thinking."""

    text: str
    reasoning: str
    finish_reason: str | None
    usage: Usage | None
    ttft_s: float | None
    elapsed_s: float

    @property
    def tokens_per_s(self) -> float | None:
        """Speed of decoding: tokens after the first, over the time after the first."""
        if self.usage is None or self.ttft_s is None or self.usage.completion_tokens < 2:
            return None
        decoding_s = self.elapsed_s - self.ttft_s
        return (self.usage.completion_tokens - 1) / decoding_s if decoding_s > 0 else None


class Reply:
    """Passes a stream's chunks on and keeps count. A context manager: leaving it closes the stream."""

    def __init__(self, chunks: Generator[Chunk, None, None]) -> None:
        self._chunks = chunks
        self._started_s = time.monotonic()
        self._first_s: float | None = None
        self._last_s = self._started_s
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._finish_reason: str | None = None
        self._usage: Usage | None = None

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, *_: object) -> None:
        self._chunks.close()

    def __iter__(self) -> Iterator[Chunk]:
        for chunk in self._chunks:
            self._count(chunk)
            yield chunk

    def _count(self, chunk: Chunk) -> None:
        if chunk.text or chunk.reasoning:
            self._last_s = time.monotonic()
            self._first_s = self._first_s or self._last_s
        self._text.append(chunk.text)
        self._reasoning.append(chunk.reasoning)
        self._finish_reason = chunk.finish_reason or self._finish_reason
        self._usage = chunk.usage or self._usage

    @property
    def answer(self) -> Answer:
        """Everything up to now."""
        ttft_s = None if self._first_s is None else self._first_s - self._started_s
        elapsed_s = self._last_s - self._started_s
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        return Answer(text, reasoning, self._finish_reason, self._usage, ttft_s, elapsed_s)
