"""What slash commands do to the conversation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxctl.chat.answer import Answer
from mlxctl.chat.client import ChatClient
from mlxctl.chat.commands import NAMES, parse
from mlxctl.chat.conversation import Conversation, Message
from mlxctl.chat.events import Usage
from mlxctl.chat.session import Session, Signal
from mlxctl.errors import UsageError
from tests.scripted_api import ScriptedApi

pytestmark = pytest.mark.unit

TALK = Conversation(system="be brief").ask("hi").answered("hello")


@pytest.fixture
def session(api: ScriptedApi) -> Iterator[Session]:
    with ChatClient(api.base_url) as client:
        yield Session(client, client.served(), TALK)


def perform(session: Session, line: str) -> str | Signal:
    command = parse(line)
    assert not isinstance(command, str)
    return session.perform(command)


def test_help_lists_every_command(session: Session) -> None:
    text = perform(session, "/help")
    assert isinstance(text, str)
    assert all(name in text for name in NAMES)


def test_help_fits_a_narrow_terminal(session: Session) -> None:
    assert max(map(len, str(perform(session, "/help")).splitlines())) < 80


def test_the_system_prompt_can_be_set_shown_and_removed(session: Session) -> None:
    assert perform(session, "/system answer in verse") == "system prompt set"
    assert perform(session, "/system") == "answer in verse"
    assert perform(session, '/system ""') == "system prompt removed"
    assert session.conversation.system == ""


def test_a_setting_can_be_set_and_is_confirmed(session: Session) -> None:
    assert perform(session, "/set temperature 0.5") == "temperature is 0.5"
    assert session.conversation.settings.temperature == 0.5


def test_set_alone_shows_all_settings(session: Session) -> None:
    assert "think       off" in str(perform(session, "/set"))


def test_set_without_a_value_says_what_is_missing(session: Session) -> None:
    with pytest.raises(UsageError, match="needs a value"):
        perform(session, "/set seed")


def test_show_tells_model_settings_and_messages(session: Session) -> None:
    text = str(perform(session, "/show"))
    assert all(
        part in text for part in ("canary", "scripted", "be brief", "temperature", "user: hi", "assistant: hello")
    )


def test_a_saved_conversation_can_be_loaded_again(session: Session, tmp_path: Path) -> None:
    perform(session, f"/save {tmp_path / 'talk one.json'}")
    perform(session, "/clear")
    assert perform(session, f"/load {tmp_path / 'talk one.json'}") == "loaded 2 messages; /show shows them"
    assert session.conversation == TALK


@pytest.mark.parametrize("command", ["/save", "/load"])
def test_a_missing_file_name_is_asked_for(session: Session, command: str) -> None:
    with pytest.raises(UsageError, match="needs a file name"):
        perform(session, command)


def test_clear_forgets_the_messages(session: Session) -> None:
    perform(session, "/clear")
    assert session.conversation == Conversation(system="be brief")


def test_retry_reopens_the_last_question(session: Session) -> None:
    assert perform(session, "/retry") is Signal.ANSWER
    assert session.conversation.messages == (Message("user", "hi"),)


def test_retry_with_nothing_asked_is_refused(session: Session) -> None:
    perform(session, "/clear")
    with pytest.raises(UsageError, match="no message"):
        perform(session, "/retry")


def test_stats_tell_the_last_answer_all_of_them_and_the_stages(session: Session) -> None:
    session.conversation = session.conversation.ask("more")
    session.finish(Answer("x", "", "stop", Usage(9, 11), ttft_s=0.5, elapsed_s=2.5))
    lines = str(perform(session, "/stats")).splitlines()
    assert lines[0] == "last answer first token 500 ms · 5.0 tok/s · 11 tokens · 2 stages"
    assert lines[1] == "all answers 1 answer, 11 tokens, 5.0 tok/s on average"
    assert [line.split()[2] for line in lines[2:]] == ["worker-1", "worker-2"]


def test_stats_say_when_the_cluster_does_not_answer(session: Session, api: ScriptedApi) -> None:
    api.status = None
    assert "stages      not found" in str(perform(session, "/stats"))


def test_bye_leaves(session: Session) -> None:
    assert perform(session, "/bye") is Signal.LEAVE


def test_what_came_before_a_stop_stays_in_the_conversation(session: Session) -> None:
    session.conversation = session.conversation.ask("count")
    session.finish(Answer("1, 2", "", None, None, 0.1, 0.2), stopped=True)
    assert session.conversation.messages[-1] == Message("assistant", "1, 2")
    assert session.totals.answers == 0


def test_a_stop_before_the_first_word_leaves_the_question_open(session: Session) -> None:
    session.conversation = session.conversation.ask("count")
    session.finish(Answer("", "hm", None, None, 0.1, 0.2), stopped=True)
    assert session.conversation.unanswered
