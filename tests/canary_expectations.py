"""What the canary answers, word for word, read from canary_expectations.yaml. For every test of meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

DEFAULT_MAX_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class Expectation:
    """One request and the canary's greedy answer; the head of the YAML file explains each field."""

    id: str
    thinking: bool
    messages: tuple[dict[str, Any], ...]
    text: str
    content: str
    finish_reason: str
    prompt_tokens: int
    answer_tokens: int
    reasoning: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_calls: tuple[dict[str, Any], ...] = ()
    stop: tuple[str, ...] = ()
    max_tokens: int = DEFAULT_MAX_TOKENS

    def __str__(self) -> str:
        return self.id


def _read() -> dict[str, Expectation]:
    document = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    cases = [_expectation(case, document["tools"]) for case in document["cases"]]
    return {case.id: case for case in cases}


def _expectation(case: dict[str, Any], tools: dict[str, dict[str, Any]]) -> Expectation:
    lists = {key: tuple(value) for key, value in case.items() if isinstance(value, list)}
    named = tuple(tools[name] for name in case.get("tools", ()))
    return Expectation(**{"content": case["text"], **case, **lists, "tools": named})


EXPECTATIONS: Final = _read()
"""By id, in the order of the file."""
