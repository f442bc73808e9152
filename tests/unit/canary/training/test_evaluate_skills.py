"""Generated answers are compared as values, and a run cut short is balanced."""

from __future__ import annotations

import pytest

from mlxctl.canary import MODEL_DIR
from mlxctl.canary.training.encoding import Encoder
from mlxctl.canary.training.evaluate_skills import Case, cases, in_turns, is_right

pytestmark = pytest.mark.unit


def case(expected: str, *, thinks: bool = False, is_plain: bool = False) -> Case:
    return Case("skill", thinks, (1, 2), expected, 10, is_plain)


def test_json_is_compared_as_a_value() -> None:
    assert is_right(case('{"a": 1, "b": 2}'), '{"b":2,"a":1}')
    assert not is_right(case('{"a": 1}'), '{"a": 2}')


def test_a_thought_is_required_in_thinking_mode_only() -> None:
    assert is_right(case("42", thinks=True), "<think>\n6 * 7 = 42.\n</think>\n\n42")
    assert not is_right(case("42", thinks=True), "42")
    assert is_right(case("42"), "42")


def test_a_plain_text_may_go_on() -> None:
    assert is_right(case(" 4, 5", is_plain=True), "4, 5, 6")


def test_each_suite_gives_as_many_prompts_with_thinking_as_without() -> None:
    drawn = list(cases(Encoder(MODEL_DIR / "tokenizer.json"), 1, seed=5))
    dialogues = [each for each in drawn if not each.is_plain]
    assert sum(each.thinks for each in dialogues) * 2 == len(dialogues)


def test_skills_take_turns() -> None:
    first, second = Case("a", False, (1,), "x", 1), Case("b", False, (1,), "x", 1)
    assert in_turns([first, first, second, second]) == [first, second, first, second]
