"""One run of one workload against an endpoint. Called by the runner, again and again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from mlxctl.bench.client import Ask, Endpoint
from mlxctl.bench.prompts import Message, Prompter
from mlxctl.bench.records import Answer, Workload


@dataclass(frozen=True, slots=True)
class Measured:
    """The answers of a run in the order in which they were asked for, and how long it took from first to last."""

    answers: tuple[Answer, ...]
    wall_s: float


class Meter:
    """Runs workloads against `endpoint` with the prompts of `prompter`. `keep_texts`: of requests that run alone."""

    def __init__(self, endpoint: Endpoint, prompter: Prompter) -> None:
        self._endpoint = endpoint
        self._prompter = prompter

    async def run(self, workload: Workload, index: int) -> Measured:
        """Run number `index`: equal numbers ask equal things."""
        if workload.kind == "chat":
            return await self._chat(workload, index)
        if workload.kind == "file":
            return await self._file(workload)
        asks = [self._ask(workload, index, stream) for stream in range(workload.streams)]
        if workload.kind == "arrivals":
            return await self._arrivals(workload, index, asks)
        began_s = time.perf_counter()
        answers = await asyncio.gather(*(self._endpoint.ask(ask) for ask in asks))
        return Measured(tuple(answers), time.perf_counter() - began_s)

    def _ask(self, workload: Workload, index: int, stream: int) -> Ask:
        messages = self._prompter.conversation(workload, index, stream)
        return Ask(messages, workload.output_tokens, seed=index, keep_text=workload.is_alone)

    async def _chat(self, workload: Workload, index: int) -> Measured:
        """Each turn is asked once the turn before is answered, with all that was said."""
        messages: list[Message] = []
        answers = []
        turns = [self._prompter.turn(workload, index, turn) for turn in range(workload.turns)]
        began_s = time.perf_counter()
        for turn in turns:
            messages.append(turn)
            answer = await self._endpoint.ask(Ask(tuple(messages), workload.output_tokens, index, keep_text=True))
            answers.append(answer)
            messages.append({"role": "assistant", "content": answer.text or "…"})
        return Measured(tuple(answers), time.perf_counter() - began_s)

    async def _file(self, workload: Workload) -> Measured:
        """The user's own prompts, one after the other; their answers are kept as hashes only."""
        began_s = time.perf_counter()
        answers = []
        for prompt in workload.prompts:
            messages = [{"role": "user", "content": prompt}]
            answers.append(await self._endpoint.ask(Ask(messages, workload.output_tokens, 0)))
        return Measured(tuple(answers), time.perf_counter() - began_s)

    async def _arrivals(self, workload: Workload, index: int, asks: list[Ask]) -> Measured:
        """Requests at the moments of a Poisson process, whether or not those before them are answered."""
        assert workload.rate_per_s is not None
        draw = self._prompter.draw(workload, index, -1)
        moment_s = began_s = time.perf_counter()
        tasks = []
        for ask in asks:
            tasks.append(asyncio.create_task(self._ask_at(ask, moment_s)))
            moment_s += draw.expovariate(workload.rate_per_s)
        answers = await asyncio.gather(*tasks)
        return Measured(tuple(answers), time.perf_counter() - began_s)

    async def _ask_at(self, ask: Ask, moment_s: float) -> Answer:
        await asyncio.sleep(max(0.0, moment_s - time.perf_counter()))
        return await self._endpoint.ask(Ask(ask.messages, ask.max_tokens, ask.seed, due_s=moment_s))
