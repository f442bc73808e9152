"""`mlxctl chat` for scripts: one message, one answer, an exit code."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripted_api import Cut, Finish, Refusal, ScriptedApi, Thinking
from tests.unit.cli.conftest import MakeCluster, Mlxctl

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def no_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"")


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_the_answer_is_all_that_is_on_stdout(mlxctl: Mlxctl, api: ScriptedApi) -> None:
    api.scripts = [[Thinking("hm"), "\n\nHello", " there."]]
    outcome = mlxctl("chat", "hi", "--url", api.base_url)
    assert (outcome.code, outcome.out, outcome.err) == (0, "Hello there.\n", "")


def test_a_terminal_without_unicode_gets_question_marks(api: ScriptedApi) -> None:
    api.scripts = [["Grüße"]]
    command = [sys.executable, "-m", "mlxctl", "chat", "hi", "--url", api.base_url]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Gr??e\n", "")


def test_the_message_can_come_from_stdin(mlxctl: Mlxctl, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.scripts = [["ok"]]
    pipe(monkeypatch, "from a pipe: ü\n".encode())
    mlxctl("chat", "--url", api.base_url)
    assert api.requests[0]["messages"] == [{"role": "user", "content": "from a pipe: ü"}]


def test_stdin_is_added_below_the_argument(mlxctl: Mlxctl, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.scripts = [["ok"]]
    pipe(monkeypatch, b"the text\n")
    mlxctl("chat", "Summarise:", "--url", api.base_url)
    assert api.requests[0]["messages"][0]["content"] == "Summarise:\n\nthe text"


def test_flags_reach_the_request(mlxctl: Mlxctl, api: ScriptedApi) -> None:
    api.scripts = [["ok"]]
    flags = ["--system", "be brief", "--temperature", "0.5", "--max-tokens", "9", "--seed", "7", "--think"]
    mlxctl("chat", "hi", "--url", api.base_url, *flags)
    request = api.requests[0]
    assert request["messages"][0] == {"role": "system", "content": "be brief"}
    assert {key: request[key] for key in ("temperature", "max_tokens", "seed")} == {
        "temperature": 0.5,
        "max_tokens": 9,
        "seed": 7,
    }
    assert request["chat_template_kwargs"] == {"enable_thinking": True}


def private_file(path: Path, content: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")
    return path


def test_json_is_one_object_with_the_figures(mlxctl: Mlxctl, api: ScriptedApi) -> None:
    api.scripts = [[Thinking("hm"), "Hello", " there."]]
    document = json.loads(mlxctl("chat", "hi", "--url", api.base_url, "--json").out)
    assert document.pop("ttft_s") > 0
    assert document.pop("tokens_per_s") > 0
    assert document == {
        "schema": "mlxctl.chat/1",
        "text": "Hello there.",
        "reasoning": "hm",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 11, "completion_tokens": 3},
        "model": "canary",
    }


def test_an_answer_cut_at_the_limit_is_noted_on_stderr(mlxctl: Mlxctl, api: ScriptedApi) -> None:
    api.scripts = [["Hello", Finish("length")]]
    outcome = mlxctl("chat", "hi", "--url", api.base_url)
    assert outcome.out == "Hello\n"
    assert "token limit" in outcome.err


def test_the_path_of_the_api_may_be_left_out(mlxctl: Mlxctl, api: ScriptedApi) -> None:
    api.scripts = [["ok"]]
    assert mlxctl("chat", "hi", "--url", api.base_url.removesuffix("/v1")).out == "ok\n"


def test_the_key_comes_from_a_file(mlxctl: Mlxctl, api: ScriptedApi, tmp_path: Path) -> None:
    api.scripts, api.api_key = [["ok"]], "secret"
    key_file = private_file(tmp_path / "key", "secret\n")
    assert mlxctl("chat", "hi", "--url", api.base_url, "--api-key-file", str(key_file)).code == 0
    outcome = mlxctl("chat", "hi", "--url", api.base_url)
    assert outcome.code == 4 and "--api-key-file FILE" in outcome.err


def test_a_key_that_was_changed_since_the_cluster_came_up_is_told_with_the_way_on(
    mlxctl: Mlxctl, api: ScriptedApi, make_cluster: MakeCluster, tmp_path: Path
) -> None:
    make_cluster(key_file=private_file(tmp_path / "key", "a-new-key"))
    api.api_key = "an-old-key"
    for verb in (("chat", "hi"), ("status",)):
        outcome = mlxctl(*verb)
        assert outcome.code == 4
        assert f"{tmp_path / 'key'} has changed since the cluster came up: mlxctl up --recreate" in outcome.err


def test_a_running_cluster_is_used(mlxctl: Mlxctl, api: ScriptedApi, make_cluster: MakeCluster) -> None:
    make_cluster()
    api.scripts = [["ok"]]
    assert mlxctl("chat", "hi").out == "ok\n"


def test_a_cluster_can_be_chosen_by_name(mlxctl: Mlxctl, api: ScriptedApi, make_cluster: MakeCluster) -> None:
    make_cluster("one")
    make_cluster("two")
    api.scripts = [["ok"]]
    assert mlxctl("chat", "hi", "--cluster", "two").out == "ok\n"


def test_several_running_clusters_need_a_choice(mlxctl: Mlxctl, make_cluster: MakeCluster) -> None:
    make_cluster("one")
    make_cluster("two")
    outcome = mlxctl("chat", "hi")
    assert outcome.code == 2
    assert "one, two" in outcome.err


def test_the_private_cluster_of_another_command_is_not_used(
    mlxctl: Mlxctl, api: ScriptedApi, make_cluster: MakeCluster
) -> None:
    make_cluster("private-0123abcd")
    make_cluster("mine")
    api.scripts = [["ok"]]
    assert mlxctl("chat", "hi").out == "ok\n"


@pytest.mark.parametrize(
    ("life", "words"),
    [
        ({"alive": False}, "the coordinator of local is gone"),
        ({"phase": "starting"}, "still coming up"),
    ],
)
def test_a_cluster_that_cannot_answer_exits_with_3(
    mlxctl: Mlxctl, make_cluster: MakeCluster, life: dict[str, object], words: str
) -> None:
    make_cluster(**life)
    outcome = mlxctl("chat", "hi", "--cluster", "local")
    assert outcome.code == 3
    assert words in outcome.err


def test_a_cluster_that_died_is_not_replaced_in_silence(mlxctl: Mlxctl, make_cluster: MakeCluster) -> None:
    make_cluster(alive=False)
    outcome = mlxctl("chat", "hi")
    assert outcome.code == 3
    assert "hint: mlxctl down local" in outcome.err


def test_the_cluster_of_a_profile_is_used_if_it_runs(
    mlxctl: Mlxctl, api: ScriptedApi, make_cluster: MakeCluster, tmp_path: Path
) -> None:
    make_cluster("mine")
    make_cluster("other")
    api.scripts = [["ok"]]
    (tmp_path / "mine.yaml").write_text("name: mine\nnodes: [{name: a, host: localhost}]\n", encoding="utf-8")
    assert mlxctl("chat", "hi", "--profile", str(tmp_path / "mine.yaml")).out == "ok\n"


def test_a_broken_profile_exits_with_2(mlxctl: Mlxctl, tmp_path: Path) -> None:
    assert mlxctl("chat", "hi", "--profile", str(tmp_path / "missing.yaml")).code == 2


def test_an_unknown_cluster_exits_with_3(mlxctl: Mlxctl) -> None:
    assert mlxctl("chat", "hi", "--cluster", "nobody").code == 3


def test_nobody_at_the_url_exits_with_3(mlxctl: Mlxctl) -> None:
    assert mlxctl("chat", "hi", "--url", "http://127.0.0.1:9").code == 3


def test_a_lost_connection_keeps_what_came_and_exits_with_3(mlxctl: Mlxctl, api: ScriptedApi) -> None:
    api.scripts = [["half an ", Cut()]]
    outcome = mlxctl("chat", "hi", "--url", api.base_url)
    assert (outcome.code, outcome.out) == (3, "half an \n")
    assert "lost in the middle of the answer" in outcome.err


def test_a_refusal_of_the_api_exits_with_1(mlxctl: Mlxctl, api: ScriptedApi) -> None:
    api.scripts = [[Refusal(400, "too long", "context_length_exceeded")]]
    outcome = mlxctl("chat", "hi", "--url", api.base_url)
    assert outcome.code == 1
    assert "error: too long" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("",),
        ("  ",),
        ("hi", "--url", "http://a", "--cluster", "b"),
        ("hi", "--api-key-file", "x"),
        ("hi", "--temperature", "3"),
        ("hi", "--max-tokens", "0"),
    ],
)
def test_flags_that_make_no_sense_exit_with_2(mlxctl: Mlxctl, arguments: tuple[str, ...]) -> None:
    assert mlxctl("chat", *arguments).code == 2


def test_stdin_that_is_no_text_exits_with_2(mlxctl: Mlxctl, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"\xff\xfe")
    outcome = mlxctl("chat")
    assert outcome.code == 2
    assert "not UTF-8" in outcome.err
