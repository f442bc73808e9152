"""Workers of one machine behind an engine, without daemon and HTTP, pinned to cores; and mlx-lm beside them.

Called by figures.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxctl import paths
from mlxctl.bench.pinning import cores, pin
from mlxctl.coordinator.engine import PipelineEngine
from mlxctl.launch.bringup import PHASES
from mlxctl.launch.launch import Launch
from mlxctl.launch.phases import run_phases
from mlxctl.profile import Profile
from mlxctl.rpc import shard_pb2
from mlxctl.wire.threads import switch_quickly

LINE_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RunningStages:
    """A loaded pipeline on this machine."""

    engine: PipelineEngine
    launch: Launch

    @property
    def stages(self) -> int:
        return len(self.launch.connections)

    def statuses(self) -> list[shard_pb2.StatusReply]:
        """What each worker says now."""
        return [connection.status() for connection in self.launch.connections]


def local_profile(stages: int, model: str, **settings: Any) -> Profile:
    """`stages` nodes on this machine."""
    nodes = [{"name": f"w{index}", "host": "localhost"} for index in range(stages)]
    return Profile.from_json(json.dumps({"name": "bench-engine", "model": model, "nodes": nodes, **settings}))


@asynccontextmanager
async def launched(profile: Profile, *, pinned: bool) -> AsyncIterator[Launch]:
    """Loaded workers of `profile` on free ports, each pinned to a core if `pinned`; all gone at the end."""
    switch_quickly()  # as the coordinator's process does
    launch = Launch(profile, f"bench-{secrets.token_hex(4)}", any_port=True)
    paths.make_cluster_dir(launch.name)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, paths.cluster_dir(launch.name), ignore_errors=True)
        await run_phases(PHASES, launch, lambda event: None, stack)
        if pinned:
            for index, worker in enumerate(launch.workers):
                pin(worker.id.pid, [index % len(cores())])
        yield launch


@asynccontextmanager
async def running_stages(
    profile: Profile, *, pinned: bool, batchable: bool = True, chunk_tokens: int | None = None
) -> AsyncIterator[RunningStages]:
    """An engine on launched workers. Without `batchable` every sequence has a lane of its own. `chunk_tokens`: see
    Plan.
    """
    async with launched(profile, pinned=pinned) as launch:
        for connection in launch.connections:
            connection.batchable = connection.batchable and batchable
        engine = await asyncio.to_thread(PipelineEngine.of, launch, queue_limit=512, chunk_tokens=chunk_tokens)
        try:
            yield RunningStages(engine, launch)
        finally:
            await asyncio.to_thread(engine.close)


class Baseline:
    """mlx-lm in a process of its own on the cores at `places`; see baseline.py. An async context manager."""

    def __init__(self, folder: Path, places: Sequence[int] = (0,)) -> None:
        self._folder = folder
        self._places = places

    async def __aenter__(self) -> Baseline:
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "mlxctl.bench_engine.baseline", str(self._folder)]
        self._process = await asyncio.create_subprocess_exec(  # a Ctrl-C is ours: the end of its stdin ends it
            *command, stdin=pipe, stdout=pipe, limit=LINE_LIMIT_BYTES, start_new_session=True
        )
        await self._hear()
        pin(self._process.pid, self._places)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def decode(self, prompt: int, tokens: int, sequences: int = 1) -> float:
        """Tok/s of `sequences` streams together, each after `prompt` tokens."""
        return await self._ask({"do": "decode", "prompt": prompt, "tokens": tokens, "sequences": sequences})

    async def prefill(self, prompt: int) -> float:
        """Tok/s of one prompt of `prompt` tokens, until the first token has come."""
        return await self._ask({"do": "prefill", "prompt": prompt})

    async def stream(self, ids: Sequence[int], tokens: int) -> float:
        """Tok/s of mlx_lm.stream_generate after the prompt `ids`, reading it included."""
        return await self._ask({"do": "stream", "ids": list(ids), "tokens": tokens})

    async def _ask(self, order: dict[str, Any]) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        return float((await self._hear())["tok_per_s"])

    async def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("mlx-lm's process has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer
