"""Memory stays flat: on the workers, which keep finished sequences within their plan, and in the coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import psutil
import pytest
from openai import AsyncOpenAI

import mlxctl
from tests.pipelines import local_profile

pytestmark = [pytest.mark.integration, pytest.mark.memory]

AT_ONCE = 8
ALLOWED_GROWTH_BYTES = 32 << 20  # allocators keep some; a leaked cache of this model is 1 MiB a request


async def answer(client: AsyncOpenAI, number: int) -> None:
    await client.chat.completions.create(
        model="canary", messages=[{"role": "user", "content": f"What is {number % 50} plus 3?"}], max_tokens=3
    )


async def leave(client: AsyncOpenAI, number: int) -> None:
    question = f"Count from {number % 9} to 100."
    stream = await client.chat.completions.create(
        model="canary", messages=[{"role": "user", "content": question}], stream=True
    )
    async for _ in stream:
        break
    await stream.close()


async def load(base_url: str, answered: int, cancelled: int) -> None:
    limit = asyncio.Semaphore(AT_ONCE)
    async with AsyncOpenAI(base_url=base_url, api_key="unused") as client:

        async def limited(number: int) -> None:
            async with limit:
                await (leave if number % (answered // cancelled) == 0 else answer)(client, number)

        await asyncio.gather(*(limited(number) for number in range(answered + cancelled)))


def resident_bytes(pids: Sequence[int]) -> list[int]:
    return [psutil.Process(pid).memory_info().rss for pid in pids]


@pytest.mark.parametrize(("answered", "cancelled"), [(120, 12), pytest.param(1000, 100, marks=pytest.mark.slow)])
def test_requests_answered_and_cancelled_leave_no_memory_behind(answered: int, cancelled: int) -> None:
    with mlxctl.Cluster.up(local_profile(2)) as cluster:
        asyncio.run(load(cluster.base_url, 120, 12))
        status = cluster.status()
        pids = [status["coordinator"]["pid"], *(stage["pid"] for stage in status["stages"])]
        before = resident_bytes(pids)
        asyncio.run(load(cluster.base_url, answered, cancelled))
        growth = [after - start for after, start in zip(resident_bytes(pids), before, strict=True)]
        status = cluster.status()
        assert all(stage["cache_bytes"] <= stage["kv_bytes"] for stage in status["stages"])
    assert status["requests"]["failed"] == 0
    assert max(growth) < ALLOWED_GROWTH_BYTES, f"coordinator and workers grew by {growth} bytes"
