"""A seed fixes a dialogue, down to the last draw."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from random import Random

import pytest

from mlxctl.canary.training.dialogue import Dialogue
from mlxctl.canary.training.mixes import SKILLS, any_dialogue, chat, tool_test
from mlxctl.canary.training.plain_text import plain_text
from mlxctl.canary.training.vocabulary import fill_pool

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def pool() -> None:
    fill_pool(Random(7), 2000)


def text_of(dialogue: Dialogue) -> str:
    messages = [asdict(message) for message in dialogue.messages]
    return json.dumps([dialogue.system, dialogue.tools, messages, dialogue.rng.random()])


def digest(texts: list[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def test_the_dialogues_are_those_of_the_program_that_trained_the_canary() -> None:
    assert digest([text_of(any_dialogue(Random(seed))) for seed in range(500)]) == "cfdf670874bed893"


def test_the_plain_texts_are_those_of_the_program_that_trained_the_canary() -> None:
    assert digest([plain_text(Random(seed)) for seed in range(200)]) == "ba9163c30cee8cb2"


@pytest.mark.parametrize("name", SKILLS)
def test_every_skill_ends_a_dialogue_with_an_answer(name: str) -> None:
    for seed in range(20):
        dialogue = chat(Random(seed), last=SKILLS[name][0], turns=3)
        last_user, last = dialogue.messages[-2:]
        assert last_user.role == "user"
        assert last_user.content
        assert last.role == "assistant"
        assert last.content
        assert last.thought


def test_no_dialogue_shows_an_unfilled_slot() -> None:
    slots = ("{name}", "{value}", "{key}", "{items}", "{thing}", "{noun}", "{0}", "{city}")
    for seed in range(500):
        dialogue = any_dialogue(Random(seed))
        assert not any(slot in message.content for message in dialogue.messages for slot in slots)


def test_a_call_names_an_offered_tool_and_its_parameters() -> None:
    for seed in range(100):
        dialogue = tool_test(Random(seed), "call")
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in dialogue.tools or []}
        (call,) = dialogue.messages[-1].calls
        assert call.arguments.keys() <= offered[call.name]["properties"].keys()
