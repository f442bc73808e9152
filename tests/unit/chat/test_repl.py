"""The conversation loop against a server that behaves as badly as it likes."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Callable, Iterator, Sequence

import pytest
from rich.console import Console

from mlxctl.chat.client import ChatClient
from mlxctl.chat.conversation import Conversation, Message
from mlxctl.chat.repl import Repl
from mlxctl.chat.session import Session
from mlxctl.chat.view import PlainView
from tests.scripted_api import Cut, ErrorEvent, Finish, Pause, Refusal, ScriptedApi

pytestmark = pytest.mark.unit

CTRL_C = KeyboardInterrupt()
Entry = str | BaseException


class InterruptingView(PlainView):
    """Presses Ctrl-C once the first word is shown."""

    def _add(self, part: object, text: str) -> None:
        super()._add("answer", text)
        os.kill(os.getpid(), signal.SIGINT)


class Sitting:
    """One run of the loop over given entries; then Ctrl-D."""

    def __init__(self, api: ScriptedApi, conversation: Conversation | None = None) -> None:
        self._api = api
        self._conversation = conversation or Conversation()
        self.screen = ""

    def run(self, entries: Sequence[Entry], view: type[PlainView] = PlainView) -> Session:
        file = io.StringIO()
        out = Console(file=file, width=100)
        with ChatClient(self._api.base_url) as client:
            session = Session(client, client.served(), self._conversation)
            Repl(session, _reader(entries), out, lambda: view(out), contextlib.nullcontext).run()
        self.screen = file.getvalue()
        return session


def _reader(entries: Sequence[Entry]) -> Callable[[], str]:
    waiting: Iterator[Entry] = iter([*entries, EOFError()])

    def read() -> str:
        entry = next(waiting)
        if isinstance(entry, str):
            return entry
        raise entry

    return read


@pytest.fixture
def sitting(api: ScriptedApi) -> Sitting:
    return Sitting(api)


def test_every_turn_is_sent_with_those_before_it(api: ScriptedApi, sitting: Sitting) -> None:
    api.scripts = [["Hello."], ["Bob."]]
    sitting.run(["I am Bob.", "Who am I?"])
    assert [message["content"] for message in api.requests[1]["messages"]] == ["I am Bob.", "Hello.", "Who am I?"]


def test_the_answer_and_its_figures_are_shown(api: ScriptedApi, sitting: Sitting) -> None:
    api.scripts = [["Hello", " there."]]
    sitting.run(["hi"])
    assert "Hello there.\nfirst token" in sitting.screen
    assert "2 tokens · 2 stages" in sitting.screen


def test_an_answer_cut_at_the_token_limit_says_so(api: ScriptedApi, sitting: Sitting) -> None:
    api.scripts = [["Hello", Finish("length")]]
    sitting.run(["hi"])
    assert "cut at the token limit" in sitting.screen


def test_ctrl_c_stops_the_answer_in_the_cluster_and_stays_in_the_conversation(
    api: ScriptedApi, sitting: Sitting
) -> None:
    api.scripts = [["1, 2,", Pause()]]
    session = sitting.run(["count"], InterruptingView)
    assert api.client_left.wait(5)
    assert session.conversation.messages == (Message("user", "count"), Message("assistant", "1, 2,"))
    assert "stopped" in sitting.screen


def test_ctrl_c_at_the_prompt_does_not_leave(api: ScriptedApi, sitting: Sitting) -> None:
    api.scripts = [["Hello."]]
    session = sitting.run([CTRL_C, "hi"])
    assert session.conversation.messages[-1] == Message("assistant", "Hello.")
    assert "Ctrl-D or /bye leaves" in sitting.screen


def test_a_lost_connection_keeps_the_conversation_and_can_be_retried(api: ScriptedApi, sitting: Sitting) -> None:
    api.scripts = [["Hello."], ["half", Cut()], ["whole"]]
    session = sitting.run(["hi", "more", "/retry"])
    assert "lost in the middle of the answer" in sitting.screen
    assert "/retry asks again" in sitting.screen
    assert [message.content for message in session.conversation.messages] == ["hi", "Hello.", "more", "whole"]


def test_an_error_of_the_cluster_is_one_line(api: ScriptedApi, sitting: Sitting) -> None:
    api.scripts = [["half", ErrorEvent("stage 1 was lost")]]
    sitting.run(["hi"])
    assert "error: stage 1 was lost\n" in sitting.screen


def test_a_refused_message_does_not_stay_in_the_way(api: ScriptedApi, sitting: Sitting) -> None:
    api.scripts = [[Refusal(400, "too long", "context_length_exceeded")], ["ok"]]
    session = sitting.run(["x" * 50, "short"])
    assert "error: too long\n  the conversation is too long for the model; /clear" in sitting.screen
    assert [message.content for message in session.conversation.messages] == ["short", "ok"]


def test_an_answer_limit_beyond_the_context_is_told_apart_from_a_long_conversation(api: ScriptedApi) -> None:
    api.scripts = [[Refusal(400, "too long", "context_length_exceeded", "max_tokens")]]
    sitting = Sitting(api)
    sitting.run(["/set max_tokens 99999", "hi"])
    assert (
        "error: too long\n  /set max_tokens takes a smaller number" in sitting.screen and "/clear" not in sitting.screen
    )


def test_a_mistyped_command_is_no_message(api: ScriptedApi, sitting: Sitting) -> None:
    sitting.run(["/hlep"])
    assert api.requests == []
    assert "you may mean /help" in sitting.screen


def test_an_empty_entry_is_no_message(api: ScriptedApi, sitting: Sitting) -> None:
    sitting.run(["", "   "])
    assert api.requests == []


def test_several_lines_are_one_message(api: ScriptedApi, sitting: Sitting) -> None:
    api.scripts = [["ok"]]
    sitting.run(['"""one\n/two"""'])
    assert api.requests[0]["messages"][0]["content"] == "one\n/two"


def test_settings_and_system_prompt_reach_the_request(api: ScriptedApi, sitting: Sitting) -> None:
    api.scripts = [["ok"]]
    sitting.run(["/set temperature 0.5", "/set think on", "/system be brief", "hi"])
    assert api.requests[0]["temperature"] == 0.5
    assert api.requests[0]["chat_template_kwargs"] == {"enable_thinking": True}
    assert api.requests[0]["messages"][0] == {"role": "system", "content": "be brief"}


def test_bye_leaves_before_the_next_entry(api: ScriptedApi, sitting: Sitting) -> None:
    sitting.run(["/bye", "hi"])
    assert api.requests == []
