"""What is asked over HTTP: a whole cluster of ours, and mlx_lm.server, on the same cores. Called by over_http."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx2

from mlxctl.bench.pinning import cores, pin
from mlxctl.bench_engine.pipeline import local_profile
from mlxctl.cluster import Cluster
from mlxctl.errors import LaunchError, TimedOut
from mlxctl.launch.processes import free_ports
from mlxctl.launch.state import read_state

HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 5.0
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers at `base_url` (…/v1) to `model`."""

    base_url: str
    model: str


def server_places() -> list[int]:
    """Where a server with all its processes runs: two cores, so that computing and HTTP need not share one."""
    return list(range(min(2, len(cores()))))


@asynccontextmanager
async def our_server(model: str, *, concurrency: int, context: int) -> AsyncIterator[Served]:
    """A cluster of one worker, as `mlxctl up` makes it. Raises what bringing it up raises."""
    profile = local_profile(1, model, concurrency=concurrency, context=context)
    cluster = await asyncio.to_thread(Cluster.up, profile)
    try:
        state = read_state(cluster.name)
        assert state is not None
        for process in (state.coordinator, *(worker.process for worker in state.workers)):
            pin(process.pid, server_places())
        yield Served(cluster.base_url, cluster.profile.model)
    finally:
        await asyncio.to_thread(cluster.down, 0.0)


@asynccontextmanager
async def mlx_lm_server(folder: Path) -> AsyncIterator[Served]:
    """mlx_lm.server for the model in `folder`. Raises LaunchError, TimedOut."""
    port = free_ports(HOST, 1)[0]
    options = ("--model", str(folder), "--host", HOST, "--port", str(port), "--log-level", "ERROR")
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mlx_lm",
            "server",
            *options,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=errors,
            env={**os.environ, **OFFLINE},
        )
        try:
            await _until_healthy(process, f"http://{HOST}:{port}/health", errors)
            pin(process.pid, server_places())
            yield Served(f"http://{HOST}:{port}/v1", str(folder))
        finally:
            await _end(process)


async def _until_healthy(process: Process, url: str, errors: IO[bytes]) -> None:
    until_s = time.monotonic() + START_TIMEOUT_S
    async with httpx2.AsyncClient(trust_env=False) as client:
        while time.monotonic() < until_s:
            if process.returncode is not None:
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
                raise LaunchError(f"mlx_lm.server does not start: {lines[-1]}")
            try:
                if (await client.get(url)).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise TimedOut(f"mlx_lm.server does not answer after {START_TIMEOUT_S:g} s")


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
