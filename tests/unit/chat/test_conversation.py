"""Turns alternate, whatever is stopped, fails or is asked again."""

from __future__ import annotations

import pytest

from mlxctl.chat.conversation import Conversation, Message

pytestmark = pytest.mark.unit

ASKED = Conversation().ask("hi")
ANSWERED = ASKED.answered("hello", "they greet")


def test_the_payload_starts_with_the_system_prompt_and_leaves_thinking_out() -> None:
    conversation = Conversation(ANSWERED.messages, system="be brief")
    assert conversation.payload() == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    ]


def test_without_system_prompt_the_payload_starts_with_the_user() -> None:
    assert ASKED.payload() == [{"role": "user", "content": "hi"}]


def test_a_new_message_takes_the_place_of_one_that_was_never_answered() -> None:
    assert ASKED.ask("again").messages == (Message("user", "again"),)


def test_reopening_drops_the_last_answer_only() -> None:
    reopened = ANSWERED.ask("more").answered("yes").reopened()
    assert reopened == ANSWERED.ask("more")


def test_reopening_keeps_a_question_that_is_open_already() -> None:
    assert ASKED.reopened() == ASKED


def test_there_is_nothing_to_reopen_at_the_beginning() -> None:
    assert Conversation().reopened() is None


def test_clearing_keeps_the_system_prompt() -> None:
    assert Conversation(ANSWERED.messages, system="be brief").cleared() == Conversation(system="be brief")
