"""Ten minutes (MLXCTL_SOAK_S seconds) of full load: more clients than fit, long prompts, some who leave."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator

import psutil
import pytest
from openai import APIError, AsyncOpenAI

import mlxctl
from tests.pipelines import local_profile

pytestmark = [pytest.mark.integration, pytest.mark.memory, pytest.mark.slow]

SOAK_S = float(os.environ.get("MLXCTL_SOAK_S", "600"))
WARM_UP_S = SOAK_S / 5
CLIENTS = 12
ALLOWED_GROWTH_BYTES = 48 << 20  # allocators of three processes; one leaked cache of a long prompt is 2 MiB


async def client(api: AsyncOpenAI, numbers: Iterator[int], until_s: float, failures: list[APIError]) -> None:
    """One request after another; every seventh is left after its first piece, every fifth has a long prompt."""
    while time.monotonic() < until_s:
        number = next(numbers)
        text = f"What is {number % 90} plus {number % 7}?"
        if number % 5 == 0:
            text = " ".join(f"Note {number + each} is kept." for each in range(60)) + " " + text
        try:
            stream = await api.chat.completions.create(
                model="canary", messages=[{"role": "user", "content": text}], max_tokens=24, stream=True
            )
            async for _ in stream:
                if number % 7 == 0:
                    break
            await stream.close()
        except APIError as error:
            failures.append(error)


async def soak(cluster: mlxctl.Cluster) -> tuple[list[int], list[APIError]]:
    """What each process has grown by since the warm-up, beyond the caches that it keeps as planned; what went wrong."""
    failures: list[APIError] = []
    numbers = itertools.count()
    until_s = time.monotonic() + SOAK_S
    async with (
        AsyncOpenAI(base_url=cluster.base_url, api_key="unused", max_retries=0) as api,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(CLIENTS):
            group.create_task(client(api, numbers, until_s, failures))
        await asyncio.sleep(WARM_UP_S)
        before = await asyncio.to_thread(held, cluster)
    after = await asyncio.to_thread(held, cluster)
    return [
        rss - rss_before - max(0, caches - caches_before)
        for (rss, caches), (rss_before, caches_before) in zip(after, before, strict=True)
    ], failures


def held(cluster: mlxctl.Cluster) -> list[tuple[int, int]]:
    """Resident bytes and bytes of caches: of the coordinator, then of each worker."""
    status = cluster.status()
    workers = [(stage["pid"], stage["cache_bytes"]) for stage in status["stages"]]
    processes = [(status["coordinator"]["pid"], 0), *workers]
    return [(psutil.Process(pid).memory_info().rss, caches) for pid, caches in processes]


def test_memory_stays_flat_at_full_load() -> None:
    with mlxctl.Cluster.up(local_profile(2)) as cluster:
        growth, failures = asyncio.run(soak(cluster))
        status = cluster.status()
    assert not failures
    assert status["requests"]["completed"] > SOAK_S / 10
    assert all(stage["cache_bytes"] <= stage["kv_bytes"] for stage in status["stages"])
    assert max(growth) < ALLOWED_GROWTH_BYTES, f"coordinator and workers grew by {growth} bytes"
