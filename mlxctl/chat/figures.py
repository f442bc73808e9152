"""Lines of figures around answers: the footer, the running totals, the toolbar. Pure; used by the REPL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlxctl.chat.answer import Answer
from mlxctl.chat.client import Served


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all whole answers since the REPL began."""

    answers: int = 0
    tokens: int = 0
    decoded_tokens: int = 0
    decoding_s: float = 0.0

    def plus(self, answer: Answer) -> Totals:
        """With one more answer; only those whose speed is known count towards the mean speed."""
        tokens = answer.usage.completion_tokens if answer.usage else 0
        timed = answer.tokens_per_s is not None and answer.ttft_s is not None
        decoded_tokens = tokens - 1 if timed else 0
        decoding_s = answer.elapsed_s - (answer.ttft_s or 0.0) if timed else 0.0
        return Totals(
            self.answers + 1, self.tokens + tokens, self.decoded_tokens + decoded_tokens, self.decoding_s + decoding_s
        )

    def line(self) -> str:
        speed = f", {self.decoded_tokens / self.decoding_s:.1f} tok/s on average" if self.decoding_s else ""
        return f"{_count(self.answers, 'answer')}, {_count(self.tokens, 'token')}{speed}"


def footer(answer: Answer, served: Served) -> str:
    """What an answer cost: time to first token, speed, tokens, stages; and why it is shorter than it could be."""
    parts = []
    if answer.ttft_s is not None:
        parts.append(f"first token {_seconds(answer.ttft_s)}")
    if answer.tokens_per_s is not None:
        parts.append(f"{answer.tokens_per_s:.1f} tok/s")
    if answer.usage is not None:
        parts.append(_count(answer.usage.completion_tokens, "token"))
    if served.stages is not None:
        parts.append(_count(served.stages, "stage"))
    if answer.finish_reason == "length":
        parts.append("cut at the token limit (/set max_tokens)")
    return " · ".join(parts)


def greeting(served: Served, base_url: str) -> str:
    """What one talks to and how to go on from here."""
    place = _place(served)
    where = place if served.stages is None else f"{place} ({_count(served.stages, 'stage')})"
    return f"{served.model} on {where or base_url}. /help lists the commands, Ctrl-D leaves."


def toolbar(served: Served, answer: Answer | None) -> str:
    """What answers, and how much of its context the conversation fills."""
    parts = [served.model]
    if served.cluster is not None and served.stages is not None:
        parts.append(f"{_place(served)}, {_count(served.stages, 'stage')}")
    if served.context is not None:
        usage = answer.usage if answer else None
        used = f"{usage.prompt_tokens + usage.completion_tokens} of " if usage else ""
        parts.append(f"context {used}{served.context}")
    return " · ".join([*parts, "/help"])


def stage_lines(status: Mapping[str, Any]) -> list[str]:
    """One line per stage of a `/status` document."""
    return [
        f"stage {stage['stage']}  {stage['node']}  layers {stage['layers'][0]} to {stage['layers'][1] - 1}"
        f"  busy {stage['busy_share']:.0%}  {stage['state']}"
        for stage in status.get("stages", ())
    ]


def _place(served: Served) -> str:
    """The cluster's name; a private one's is nobody's business."""
    name = served.cluster or ""
    return "a private cluster" if name.startswith("private-") else name


def _seconds(duration_s: float) -> str:
    return f"{duration_s * 1000:.0f} ms" if duration_s < 1 else f"{duration_s:.1f} s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
