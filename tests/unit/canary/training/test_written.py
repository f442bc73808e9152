"""Answers to hand-written turns are judged as the head of written.yaml says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mlxctl.canary.training.written import Check, written_dialogues

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("rules", "right", "wrong"),
    [
        ({"answer": "42"}, "42", "The answer is 42"),
        ({"like": "do_not_know"}, "I do not know your city.", "Your city is Oslo."),
        ({"matches": "^Yes"}, "Yes.", "No."),
        ({"says": ["Oslo"]}, "your city is oslo.", "Your city is Osloer."),
        ({"says": ["Judy"], "never": ["nice to meet"]}, "Got it: Judy.", "Nice to meet you, Judy!"),
        ({"contains": ["a", "b"]}, "a b", "a"),
        ({"json": {"a": 1}}, '{"a":1}', "not JSON"),
        ({"json": "any"}, '{"b": 2}', "{"),
        (
            {"calls": [{"name": "add", "arguments": {"a": 1}}]},
            '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
            "<tool_call>\nadd",
        ),
    ],
)
def test_a_rule_tells_right_from_wrong(rules: dict[str, Any], right: str, wrong: str) -> None:
    check = Check.parse(rules)
    assert check.holds(right)
    assert not check.holds(wrong)


def test_the_fresh_sections_hold_144_turns_and_the_mirrored_ones_212() -> None:
    turns = Counter[str]()
    for dialogue in written_dialogues():
        kind = dialogue.section if dialogue.section == "first55" else dialogue.section.partition(" ")[0]
        turns["fresh" if kind == "fresh" else "first55" if kind == "first55" else "mirrored"] += len(dialogue.turns)
    assert turns == {"fresh": 144, "mirrored": 212, "first55": 55}
