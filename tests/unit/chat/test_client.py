"""The HTTP client: what is served, the stream, and every way in which it can fail."""

from __future__ import annotations

import pytest

from mlxctl.chat.client import ChatClient, Served
from mlxctl.errors import AuthenticationError, MlxctlError, NotRunning, Overloaded, UsageError, WireError
from tests.scripted_api import Cut, ErrorEvent, Pause, Refusal, ScriptedApi, Thinking

pytestmark = pytest.mark.unit

MESSAGES = [{"role": "user", "content": "hi"}]


def texts(client: ChatClient) -> list[str]:
    return [
        chunk.text or chunk.reasoning
        for chunk in client.stream("canary", MESSAGES, {})
        if chunk.text or chunk.reasoning
    ]


def test_a_cluster_of_ours_tells_its_stages(api: ScriptedApi) -> None:
    with ChatClient(api.base_url) as client:
        assert client.served() == Served("canary", "scripted", 4096, 2)


def test_another_server_tells_its_model_only(api: ScriptedApi) -> None:
    api.status = None
    with ChatClient(api.base_url) as client:
        assert client.served() == Served("canary")


def test_a_status_of_another_product_is_not_taken_for_ours(api: ScriptedApi) -> None:
    api.status = {"status": "fine"}
    with ChatClient(api.base_url) as client:
        assert client.served() == Served("canary")


def test_a_server_without_models_is_refused(api: ScriptedApi) -> None:
    api.models = []
    with ChatClient(api.base_url) as client, pytest.raises(WireError, match="does not answer like an OpenAI API"):
        client.served()


def test_the_key_is_sent(api: ScriptedApi) -> None:
    api.api_key = "secret"
    with ChatClient(api.base_url, "secret") as client:
        client.served()
    assert set(api.authorizations) == {"Bearer secret"}


def test_a_wrong_key_is_an_authentication_error(api: ScriptedApi) -> None:
    api.api_key = "secret"
    with ChatClient(api.base_url, "wrong") as client, pytest.raises(AuthenticationError, match="wrong key"):
        client.served()


def test_the_answer_comes_piece_by_piece(api: ScriptedApi) -> None:
    api.scripts = [[Thinking("hm"), "Hello", " Wörld \u2028 😀"]]
    with ChatClient(api.base_url) as client:
        assert texts(client) == ["hm", "Hello", " Wörld \u2028 😀"]


def test_the_request_asks_for_a_stream_with_usage_and_the_given_fields(api: ScriptedApi) -> None:
    api.scripts = [["x"]]
    with ChatClient(api.base_url) as client:
        list(client.stream("canary", MESSAGES, {"seed": 7}))
    assert api.requests == [
        {"model": "canary", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}, "seed": 7}
    ]


def test_closing_the_stream_early_closes_the_connection(api: ScriptedApi) -> None:
    api.scripts = [["first", Pause()]]
    with ChatClient(api.base_url) as client:
        stream = client.stream("canary", MESSAGES, {})
        next(stream)
        stream.close()
        assert api.client_left.wait(5)


def test_a_connection_that_breaks_is_told_in_one_line(api: ScriptedApi) -> None:
    api.scripts = [["half an ", Cut()]]
    with ChatClient(api.base_url) as client, pytest.raises(NotRunning, match="lost in the middle of the answer"):
        texts(client)


def test_an_error_in_the_middle_is_raised_as_it_was_told(api: ScriptedApi) -> None:
    api.scripts = [["half an ", ErrorEvent("stage 1 was lost")]]
    with ChatClient(api.base_url) as client, pytest.raises(MlxctlError, match="stage 1 was lost"):
        texts(client)


def test_a_full_queue_says_when_to_come_back(api: ScriptedApi) -> None:
    api.scripts = [[Refusal(429, "the queue is full")]]
    with ChatClient(api.base_url) as client, pytest.raises(Overloaded) as caught:
        texts(client)
    assert caught.value.retry_after_s == 7


def test_nobody_there_is_told_with_the_address() -> None:
    with ChatClient("http://127.0.0.1:9/v1") as client, pytest.raises(NotRunning, match=r"127\.0\.0\.1:9"):
        client.served()


@pytest.mark.parametrize("url", ["nonsense", "ftp://host/v1", "http://", "http://ho st/v1", "http://[::1/v1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with ChatClient(url) as client, pytest.raises((UsageError, NotRunning)):
        client.served()
