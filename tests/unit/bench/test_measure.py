"""What a run asks for, and in which order."""

from __future__ import annotations

import pytest

from mlxctl.bench.client import Endpoint
from mlxctl.bench.measure import Meter
from mlxctl.bench.prompts import Prompter
from mlxctl.bench.records import Workload
from tests.scripted_api import ScriptedApi, serve
from tests.unit.bench.samples import FOUR

pytestmark = pytest.mark.unit

CHAT = Workload(id="chat3", kind="chat", prompt_tokens=8, output_tokens=4, turns=3)
ARRIVALS = Workload(id="r50", kind="arrivals", prompt_tokens=8, output_tokens=4, streams=5, rate_per_s=50.0)
FILE = Workload(id="file", kind="file", prompt_tokens=0, output_tokens=4, prompts=("first", "second"))


async def measured(api: ScriptedApi, workload: Workload, answers: int) -> list[list[dict[str, str]]]:
    """The conversations that the server was asked for."""
    api.scripts += [[f"answer {number}"] for number in range(answers)]
    async with Endpoint(api.base_url, "canary") as endpoint:
        found = await Meter(endpoint, Prompter(0, None)).run(workload, 0)
    assert len(found.answers) == answers
    return [request["messages"] for request in api.requests]


async def test_a_chats_turns_hold_all_that_was_said() -> None:
    with serve() as api:
        asked = await measured(api, CHAT, 3)
    assert [[message["role"] for message in messages] for messages in asked] == [
        ["user"],
        ["user", "assistant", "user"],
        ["user", "assistant", "user", "assistant", "user"],
    ]
    assert asked[2][:2] == [asked[0][0], {"role": "assistant", "content": "answer 0"}]


async def test_streams_ask_different_things() -> None:
    with serve() as api:
        asked = await measured(api, FOUR, 4)
    assert len({messages[0]["content"] for messages in asked}) == 4


async def test_requests_arrive_by_the_clock_and_not_by_the_answers() -> None:
    with serve() as api:
        await measured(api, ARRIVALS, 5)
    draws = [Prompter(seed, None).draw(ARRIVALS, 0, -1).expovariate(50.0) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


async def test_prompts_of_a_file_are_asked_as_they_are_and_their_answers_not_kept() -> None:
    with serve() as api:
        api.scripts += [["a"], ["b"]]
        async with Endpoint(api.base_url, "canary") as endpoint:
            found = await Meter(endpoint, Prompter(0, None)).run(FILE, 0)
    assert [request["messages"][0]["content"] for request in api.requests] == ["first", "second"]
    assert [answer.text for answer in found.answers] == [None, None]
