"""Real worker processes behind an engine, without the daemon and HTTP: for tests of tokens rather than of text."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mlxctl import paths
from mlxctl.coordinator.engine import PipelineEngine
from mlxctl.launch.bringup import PHASES
from mlxctl.launch.events import PhaseEvent
from mlxctl.launch.launch import Launch
from mlxctl.launch.phases import run_phases
from mlxctl.profile import Profile
from mlxctl.request import GenerationRequest

NO_STORES: Mapping[str, Path] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RunningPipeline:
    """An engine on live workers, and what was launched for it."""

    engine: PipelineEngine
    launch: Launch

    async def tokens(self, request: GenerationRequest) -> list[int]:
        """All tokens of one request."""
        generation = self.engine.submit(request)
        return [token async for piece in generation for token in piece]


def local_profile(stage_count: int, model: str = "canary") -> Profile:
    """`stage_count` nodes on this machine."""
    nodes = [{"name": f"w{index}", "host": "localhost"} for index in range(stage_count)]
    return Profile.from_json(json.dumps({"name": "test", "model": model, "nodes": nodes}))


@asynccontextmanager
async def running_pipeline(
    profile: Profile,
    on_event: Callable[[PhaseEvent], None] = lambda event: None,
    separate_stores: Mapping[str, Path] = NO_STORES,
) -> AsyncIterator[RunningPipeline]:
    """Workers of `profile` on free ports, loaded and connected; all gone at the end. Nodes in `separate_stores` have
    that folder for weights and cannot read the model's.
    """
    name = f"pipeline-{secrets.token_hex(4)}"
    launch = Launch(profile, name, any_port=True, separate_stores=separate_stores)
    paths.make_cluster_dir(launch.name)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, paths.cluster_dir(launch.name))
        await run_phases(PHASES, launch, on_event, stack)
        engine = await asyncio.to_thread(PipelineEngine.of, launch, queue_limit=64)
        stack.push_async_callback(asyncio.to_thread, engine.close)
        yield RunningPipeline(engine, launch)
