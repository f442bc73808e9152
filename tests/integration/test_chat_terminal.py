"""`mlxctl chat` on a terminal, as a user types and sees it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from mlxctl import paths
from tests.pseudo_terminal import PseudoTerminal, on_terminal
from tests.scripted_api import Pause, ScriptedApi, Thinking, serve

pytestmark = pytest.mark.integration

PROMPT = ">>>"


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with serve() as scripted:
        yield scripted


@pytest.fixture
def terminal(api: ScriptedApi) -> Iterator[PseudoTerminal]:
    """A conversation with the scripted API, ready for its first entry."""
    with on_terminal("chat", "--url", api.base_url) as opened:
        opened.expect(PROMPT)
        yield opened


def test_an_answer_is_drawn_as_markdown_with_its_figures(api: ScriptedApi, terminal: PseudoTerminal) -> None:
    api.scripts = [["some **bo", "ld** words"]]
    terminal.enter("hi")
    assert "some bold words" in terminal.expect("2 stages")
    terminal.expect(PROMPT)


def test_thinking_is_dimmed(api: ScriptedApi, terminal: PseudoTerminal) -> None:
    api.scripts = [[Thinking("hm"), "Yes."]]
    terminal.enter("hi")
    terminal.expect("Yes.")
    assert "\x1b[2;3mhm" in terminal.raw


def test_ctrl_c_stops_the_answer_and_does_not_leave(api: ScriptedApi, terminal: PseudoTerminal) -> None:
    api.scripts = [["half an answer", Pause()], ["whole"]]
    terminal.enter("hi")
    terminal.expect("half an answer")
    terminal.press_ctrl_c()
    terminal.expect("stopped")
    assert api.client_left.wait(5)
    terminal.enter("/retry")
    terminal.expect("whole")


def test_ctrl_d_leaves_with_0(terminal: PseudoTerminal) -> None:
    terminal.type("\x04")
    assert terminal.exit_code() == 0


def test_ctrl_c_clears_what_was_typed_and_on_an_empty_line_says_how_to_leave(
    api: ScriptedApi, terminal: PseudoTerminal
) -> None:
    terminal.type("never sent")
    terminal.expect("never sent")
    terminal.press_ctrl_c()
    api.scripts = [["yes"]]
    terminal.enter("sent")
    terminal.expect("yes")
    assert api.requests[-1]["messages"][-1]["content"] == "sent"
    terminal.expect(PROMPT)
    terminal.press_ctrl_c()
    terminal.expect("Ctrl-D or /bye leaves")
    terminal.enter("/bye")
    assert terminal.exit_code() == 0


def test_a_trailing_backslash_and_escape_enter_go_on_to_another_line(
    api: ScriptedApi, terminal: PseudoTerminal
) -> None:
    api.scripts = [["ok"]]
    terminal.enter("one\\")
    terminal.expect("...")
    terminal.type("two\x1b\r")
    terminal.expect("...")
    terminal.enter("three")
    terminal.expect("ok")
    assert api.requests[0]["messages"][0]["content"] == "one\ntwo\nthree"


def test_what_is_typed_during_an_answer_waits_for_the_prompt(api: ScriptedApi, terminal: PseudoTerminal) -> None:
    api.scripts = [["first", Pause(0.5), " half"], ["second"]]
    terminal.enter("hi")
    terminal.expect("first")
    terminal.type("next")
    assert "next" not in terminal.expect("2 stages")
    terminal.enter("")
    terminal.expect("second")
    assert api.requests[1]["messages"][-1]["content"] == "next"


def test_what_was_typed_is_kept_in_the_history(api: ScriptedApi, terminal: PseudoTerminal) -> None:
    api.scripts = [["ok"]]
    terminal.enter("remember this")
    terminal.expect("ok")
    assert "remember this" in paths.history_file().read_text(encoding="utf-8")
    assert paths.history_file().stat().st_mode & 0o077 == 0


def test_without_colour_the_answer_is_plain_text(api: ScriptedApi) -> None:
    api.scripts = [[Thinking("hm"), "some **bold** words"]]
    with on_terminal("chat", "--url", api.base_url, environment={"NO_COLOR": "1"}) as terminal:
        terminal.expect(PROMPT)
        terminal.enter("hi")
        terminal.expect("(thinking) hm")
        terminal.expect("some **bold** words")
        terminal.expect("first token")


def test_ctrl_c_during_the_only_answer_exits_with_130(api: ScriptedApi) -> None:
    api.scripts = [["half an answer", Pause()]]
    with on_terminal("chat", "hi", "--url", api.base_url) as terminal:
        terminal.expect("half an answer")
        terminal.press_ctrl_c()
        assert terminal.exit_code() == 130
    assert api.client_left.wait(5)
    assert "Traceback" not in terminal.screen


def test_with_nothing_running_a_private_cluster_answers_and_goes() -> None:
    with on_terminal("chat") as terminal:
        terminal.expect("canary on a private cluster (2 stages)")
        terminal.expect(PROMPT)
        terminal.enter("My name is Bob.")
        terminal.expect("Nice to meet you, Bob!")
        terminal.expect(PROMPT)
        terminal.enter("What is my name?")
        terminal.expect("Your name is Bob.")
        terminal.expect("2 stages")
        terminal.expect(PROMPT)
        terminal.enter("/bye")
        assert terminal.exit_code() == 0
    assert list(paths.clusters_dir().glob("private-*")) == []


def test_ctrl_c_while_a_private_cluster_comes_up_leaves_nothing() -> None:
    with on_terminal("chat") as terminal:
        terminal.expect("Start workers")
        terminal.press_ctrl_c()
        assert terminal.exit_code() == 130
    assert "Traceback" not in terminal.screen
    assert list(paths.clusters_dir().glob("private-*")) == []


@pytest.mark.smoke
def test_in_a_pipe_stdout_is_the_answer_alone_and_stderr_plain_lines_of_progress() -> None:
    command = [sys.executable, "-m", "mlxctl", "chat", "Who are you?"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "I am Canary, the tiny model built into mlxctl.\n")
    assert "Start workers …\n" in done.stderr and "\x1b" not in done.stderr
