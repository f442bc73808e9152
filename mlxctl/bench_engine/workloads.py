"""What is measured on a running pipeline: tokens a second of streams and of a prompt, and who was busy."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from mlxctl.bench_engine.pipeline import RunningStages
from mlxctl.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Decoded:
    """`tok_per_s` of all streams together while all of them ran; the slowest stage's busy share meanwhile."""

    tok_per_s: float
    busy_share: float
    lanes: tuple[int, ...]


def random_prompt(length: int) -> tuple[int, ...]:
    """Tokens that no other prompt begins with."""
    return tuple(random.randrange(10, 1000) for _ in range(length))  # noqa: S311


async def decode(pipeline: RunningStages, prompt: int, tokens: int, sequences: int = 1) -> Decoded:
    """`sequences` streams at once, each after `prompt` tokens of its own; measured while all of them run."""
    streams = [Stream() for _ in range(sequences)]
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(stream.run(pipeline, random_prompt(prompt), tokens)) for stream in streams]
        for stream in streams:
            await stream.begun.wait()
        before, began_s = pipeline.statuses(), time.perf_counter()
        lanes = pipeline.engine.lanes().rows
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        after, ended_s = pipeline.statuses(), time.perf_counter()
    first_s, last_s = max(each.moments_s[0] for each in streams), min(each.moments_s[-1] for each in streams)
    counted = sum(first_s < moment_s <= last_s for each in streams for moment_s in each.moments_s)
    busy_s = [end.profile.busy_s - start.profile.busy_s for start, end in zip(before, after, strict=True)]
    return Decoded(counted / (last_s - first_s), max(busy_s) / (ended_s - began_s), lanes)


class Stream:
    """One request; when each of its tokens came."""

    def __init__(self) -> None:
        self.moments_s: list[float] = []
        self.begun = asyncio.Event()

    async def run(self, pipeline: RunningStages, prompt: tuple[int, ...], tokens: int) -> None:
        async for piece in pipeline.engine.submit(GenerationRequest(prompt, tokens)):
            self.moments_s.extend([time.perf_counter()] * len(piece))
            self.begun.set()


async def prefill(pipeline: RunningStages, prompt: int) -> float:
    """Tok/s of one prompt, until its first token has come."""
    stream, began_s = Stream(), time.perf_counter()
    await stream.run(pipeline, random_prompt(prompt), 1)
    return prompt / (stream.moments_s[0] - began_s)
