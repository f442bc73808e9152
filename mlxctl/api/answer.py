"""One answer read from its tokens: thinking, text, stop strings, tool calls. Pure; called by api.chat."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlxctl.api.matching import Channel, Segment, Splitter
from mlxctl.request import FinishReason, TokenLogprob
from mlxctl.tokenizer import Tokenizer

ChatFinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of the function `name`; `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class Delta:
    """What became certain of an answer since the last look."""

    content: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.tool_calls or self.logprobs)

    def __iadd__(self, other: Delta) -> Delta:
        self.content += other.content
        self.reasoning += other.reasoning
        self.tool_calls += other.tool_calls
        self.logprobs += other.logprobs
        return self


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How to read an answer: its first state, the stop strings of its text, the tools that it may call (or none)."""

    state: str = "normal"
    stops: tuple[str, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()


class AnswerReader:
    """Tokens in, Deltas out. How tokens arrive (one by one or many at once) does not change what is read.

    Stop strings are looked for in the text of the answer only: neither in thinking nor in tool calls, nor across one.
    """

    def __init__(self, tokenizer: Tokenizer, answer_format: AnswerFormat) -> None:
        self._tokenizer = tokenizer
        self._tools = answer_format.tools
        self._detokenizer = tokenizer.detokenizer()
        self._splitter = Splitter(tokenizer.transitions(tools=bool(self._tools)), answer_format.state)
        self._content = Channel(answer_format.stops)
        self._reasoning = Channel(after_marker=True)
        self._call_marker: str | None = None
        self._call_text = ""
        self._called = False
        self.completion_tokens = 0

    @property
    def stopped(self) -> bool:
        """A stop string is complete: the rest of the generation is of no use."""
        return self._content.stopped

    def feed(self, tokens: Sequence[int]) -> Delta:
        """What `tokens` add. Tokens after the one that completed a stop string are neither read nor counted."""
        delta = Delta()
        for token in tokens:
            if self.stopped:
                break
            self.completion_tokens += 1
            self._read(self._detokenizer.push(token), delta)
        return delta

    def finish(self) -> Delta:
        """What was held back, now that no more comes."""
        delta = Delta()
        if not self.stopped:
            self._read(self._detokenizer.finish(), delta)
            self._take(self._splitter.flush(), delta)
            self._close_call("", delta)
        delta.content += self._content.finish()
        delta.reasoning += self._reasoning.finish()
        return delta

    def finish_reason(self, reason: FinishReason) -> ChatFinishReason:
        """OpenAI's reason for a generation that ended with `reason`."""
        if self.stopped:
            return "stop"
        return "tool_calls" if self._called and reason == "stop" else reason

    def _read(self, text: str, delta: Delta) -> None:
        for segment in self._splitter.feed(text) if text else ():
            self._take(segment, delta)
            if self.stopped:
                return

    def _take(self, segment: Segment, delta: Delta) -> None:
        if segment.state == "normal":
            delta.content += self._content.feed(segment.text)
        elif segment.state == "reasoning":
            delta.reasoning += self._reasoning.feed(segment.text)
        elif segment.state == "tool":
            self._call_text += segment.text
        if segment.marker is not None:
            self._pass_marker(segment.state, segment.marker, segment.next_state, delta)

    def _pass_marker(self, state: str, marker: str, next_state: str | None, delta: Delta) -> None:
        delta.reasoning += self._reasoning.pause()
        if state == "tool":
            self._close_call(marker, delta)
        else:
            delta.content += self._content.pause()
        if next_state == "tool":
            self._call_marker = marker

    def _close_call(self, end_marker: str, delta: Delta) -> None:
        """Read the call that has ended; what cannot be read as one is text, so that nothing is lost."""
        marker, text = self._call_marker, self._call_text
        self._call_marker, self._call_text = None, ""
        if marker is None:
            return
        try:
            calls = self._tokenizer.parse_tool_calls(text, self._tools)
            delta.tool_calls += [_tool_call(call) for call in calls]
            self._called = True
        except ValueError:
            delta.content += self._content.feed(marker + text + end_marker)


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    """Raises ValueError where the call cannot be put into JSON or UTF-8."""
    arguments = json.dumps(call["arguments"], ensure_ascii=False, allow_nan=False)
    made = ToolCall(call.get("id") or f"call_{uuid.uuid4().hex[:24]}", call["name"], arguments)
    (made.id + made.name + made.arguments).encode()
    return made
