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
    """`tok_per_s` of all streams together while all of them ran; the slowest stage's busy share meanwhile. Of one
    stream `beside_computing_ms` is what a token takes while no stage computes.
    """

    tok_per_s: float
    busy_share: float
    beside_computing_ms: float
    lanes: tuple[int, ...]


def random_prompt(length: int) -> tuple[int, ...]:
    """Tokens that no other prompt begins with."""
    return tuple(random.randrange(10, 1000) for _ in range(length))  # noqa: S311


async def decode(pipeline: RunningStages, prompt: int, tokens: int, sequences: int = 1) -> Decoded:
    """`sequences` streams at once, each after `prompt` tokens of its own: `tokens` more of each once all run."""
    streams = [Stream() for _ in range(sequences)]
    most = pipeline.engine.context - prompt
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(stream.run(pipeline, random_prompt(prompt), most)) for stream in streams]
        for stream in streams:
            await stream.has(1)
        before, began_s = pipeline.statuses(), time.perf_counter()
        counts = [stream.tokens for stream in streams]
        for stream, count in zip(streams, counts, strict=True):
            await stream.has(count + tokens)
        after, ended_s = pipeline.statuses(), time.perf_counter()
        made = sum(stream.tokens for stream in streams) - sum(counts)
        lanes = pipeline.engine.lanes().rows
        for task in running:
            task.cancel()
    busy_s = [end.profile.busy_s - start.profile.busy_s for start, end in zip(before, after, strict=True)]
    took_s = ended_s - began_s
    return Decoded(made / took_s, max(busy_s) / took_s, 1000 * (took_s - sum(busy_s)) / made, lanes)


class Stream:
    """One request, as its client sees it."""

    def __init__(self) -> None:
        self.tokens = 0
        self._more = asyncio.Condition()

    async def run(self, pipeline: RunningStages, prompt: tuple[int, ...], tokens: int) -> None:
        """Ask for `tokens` tokens; cancelled, it cancels the request."""
        generation = pipeline.engine.submit(GenerationRequest(prompt, tokens))
        try:
            async for piece in generation:
                async with self._more:
                    self.tokens += len(piece)
                    self._more.notify_all()
        finally:
            generation.cancel()

    async def has(self, tokens: int) -> None:
        """Return once so many tokens have come."""
        async with self._more:
            await self._more.wait_for(lambda: self.tokens >= tokens)


async def prefill(pipeline: RunningStages, prompt: int) -> float:
    """Tok/s of one prompt, until its first token has come."""
    began_s = time.perf_counter()
    await Stream().run(pipeline, random_prompt(prompt), 1)
    return prompt / (time.perf_counter() - began_s)
