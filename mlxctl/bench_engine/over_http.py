"""Figures over HTTP: the whole product against mlx-lm in one process, and against mlx_lm.server. Called by figures."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mlxctl.bench.client import Ask, Endpoint
from mlxctl.bench.measure import Measured, Meter
from mlxctl.bench.prompts import Prompter, load_tokenizer
from mlxctl.bench.records import Answer, Workload
from mlxctl.bench.report import EngineFigure
from mlxctl.bench_engine.figure import in_turn, ratio
from mlxctl.bench_engine.pipeline import Baseline
from mlxctl.bench_engine.servers import Served, mlx_lm_server, our_server, server_places
from mlxctl.errors import RequestError
from mlxctl.tokenizer import Tokenizer

CONTEXT = 2048
SEQUENCES = 16
CLIENTS = 8
LONG_PROMPT_TOKENS = 1000
LONG_PROMPT_EVERY_S = 2.0
LONG_PROMPTS = 4
WARM_UP = 1_000_000
"""Rounds are numbered from 0; a warm-up asks what no round does."""

SEED_FIELD = "seed"  # mlx_lm.server answers requests that have one by one

ONE = Workload(id="one", kind="decode", prompt_tokens=32, output_tokens=64)
MANY = Workload(id="many", kind="concurrent", prompt_tokens=64, output_tokens=48, streams=CLIENTS)
CHAT = Workload(id="chat", kind="chat", prompt_tokens=48, output_tokens=32, turns=10)
LONG = Workload(id="long", kind="prefill", prompt_tokens=LONG_PROMPT_TOKENS, output_tokens=4)

OURS = "mlxctl over HTTP"
THEIRS = "mlx_lm.server"


@dataclass(frozen=True, slots=True)
class Client:
    """Asks one server. Rounds of equal number ask every server the same."""

    endpoint: Endpoint
    prompter: Prompter

    async def run(self, workload: Workload, number: int) -> Measured:
        """One run. Raises RequestError where a request failed."""
        measured = await Meter(self.endpoint, self.prompter).run(workload, number)
        _check(measured.answers)
        return measured

    async def beside_long_prompts(self, number: int) -> BesideLong:
        """Eight clients ask, one request after the other, until the last long prompt has had its two seconds."""
        until_s = time.perf_counter() + LONG_PROMPTS * LONG_PROMPT_EVERY_S
        began_s = time.perf_counter()
        clients = asyncio.gather(*(self._keep_asking(number, client, until_s) for client in range(CLIENTS)))
        long = asyncio.gather(*(self._long_prompt(number, each) for each in range(LONG_PROMPTS)))
        answers = [answer for found in await clients for answer in found]
        wall_s = time.perf_counter() - began_s
        prompts = await long
        _check([*answers, *prompts])
        first_s = statistics.median(answer.ttft_s or answer.e2e_s for answer in prompts)
        return BesideLong(_tokens(answers) / wall_s, first_s)

    async def _keep_asking(self, number: int, client: int, until_s: float) -> list[Answer]:
        answers: list[Answer] = []
        while not answers or time.perf_counter() < until_s:
            answers.append(await self.endpoint.ask(self._to_ask(MANY, number, client + CLIENTS * len(answers))))
            if answers[-1].error is not None:
                break
        return answers

    async def _long_prompt(self, number: int, place: int) -> Answer:
        ask = self._to_ask(LONG, number, place)
        await asyncio.sleep((place + 0.5) * LONG_PROMPT_EVERY_S)
        return await self.endpoint.ask(ask)

    def _to_ask(self, workload: Workload, number: int, stream: int) -> Ask:
        return Ask(self.prompter.conversation(workload, number, stream), workload.output_tokens, seed=number)


@dataclass(frozen=True, slots=True)
class BesideLong:
    """Tok/s of the clients, and seconds until a long prompt's first token (the median)."""

    tok_per_s: float
    long_ttft_s: float


@dataclass(frozen=True, slots=True)
class OverHttp:
    """What is measured over HTTP of `model` at `folder`."""

    model: str
    folder: Path
    rounds: int

    async def product(self) -> AsyncIterator[EngineFigure]:
        """One stream through a whole cluster of one stage / mlx_lm.stream_generate on the same cores."""
        async with Baseline(self.folder, places=server_places()) as baseline, self._ours() as client:

            async def ours(number: int) -> float:
                return _rate(await client.run(ONE, number))

            async def theirs(number: int) -> float:
                return await baseline.stream(self._ids(client.prompter, number), ONE.output_tokens)

            for warm_up in (ours, theirs):
                await warm_up(WARM_UP)
            pairs = await in_turn(self.rounds, ours, theirs)
        token_ms = 1000 / statistics.median(other for _, other in pairs)
        yield ratio(
            "product",
            "one stream over HTTP: 1 stage / mlx-lm",
            (OURS, "mlx_lm.stream_generate"),
            "tok/s",
            pairs,
            wanted=0.93,
            note=f"{token_ms:.1f} ms a token in mlx-lm; reading {ONE.prompt_tokens} tokens of prompt is in both",
        )

    async def server(self) -> AsyncIterator[EngineFigure]:
        """Eight clients against mlx_lm.server, alone and while long prompts arrive."""
        async with self._ours() as ours, self._theirs() as theirs:
            runs = await self._in_turn(MANY, ours, theirs)
            mine, others = zip(*runs, strict=True)
            yield ratio(
                "server",
                f"{CLIENTS} clients over HTTP: mlxctl / mlx_lm.server",
                (OURS, THEIRS),
                "tok/s",
                [(_rate(run), _rate(other)) for run, other in runs],
                wanted=1.0,
                note=f"{MANY.prompt_tokens} tokens of prompt, {MANY.output_tokens} of answer; first token after "
                f"{_first_token_s(mine):.2f} s, theirs {_first_token_s(others):.2f} s",
            )
            for client in (ours, theirs):
                await client.run(LONG, WARM_UP)
            beside = await in_turn(self.rounds, ours.beside_long_prompts, theirs.beside_long_prompts)
            first = [statistics.median(side.long_ttft_s for side in sides) for sides in zip(*beside, strict=True)]
            yield ratio(
                "server",
                f"the same, a prompt of {LONG_PROMPT_TOKENS} tokens every {LONG_PROMPT_EVERY_S:g} s",
                (OURS, THEIRS),
                "tok/s",
                [(mine.tok_per_s, other.tok_per_s) for mine, other in beside],
                wanted=1.1,
                note=f"the prompts' first token after {first[0]:.2f} s, theirs {first[1]:.2f} s",
            )

    async def chat(self) -> AsyncIterator[EngineFigure]:
        """All turns of a conversation, each with everything said before: our time / mlx_lm.server's."""
        async with self._ours() as ours, self._theirs() as theirs:
            runs = await self._in_turn(CHAT, ours, theirs)
        said = [f"{_tokens(side[-1].answers)} tokens, {_cached(side[-1].answers)}" for side in zip(*runs, strict=True)]
        yield ratio(
            "chat",
            f"a chat of {CHAT.turns} turns: time of mlxctl / of mlx_lm.server",
            (OURS, THEIRS),
            "s",
            [(mine.wall_s, other.wall_s) for mine, other in runs],
            wanted=1.0,
            better="lower",
            note=f"{said[0]}; theirs {said[1]}",
        )

    async def _in_turn(self, workload: Workload, ours: Client, theirs: Client) -> list[tuple[Measured, Measured]]:
        """The rounds of `workload`, once both sides have run it unmeasured."""
        for client in (ours, theirs):
            await client.run(workload, WARM_UP)
        return await in_turn(self.rounds, lambda n: ours.run(workload, n), lambda n: theirs.run(workload, n))

    @asynccontextmanager
    async def _ours(self) -> AsyncIterator[Client]:
        served = our_server(self.model, concurrency=SEQUENCES, context=CONTEXT)
        async with served as server, self._client(server) as client:
            yield client

    @asynccontextmanager
    async def _theirs(self) -> AsyncIterator[Client]:
        async with mlx_lm_server(self.folder) as server, self._client(server) as client:
            yield client

    @asynccontextmanager
    async def _client(self, server: Served) -> AsyncIterator[Client]:
        prompter = Prompter(0, load_tokenizer(self.model))
        async with Endpoint(server.base_url, server.model, count=prompter.count) as endpoint:
            endpoint.refused.append(SEED_FIELD)
            yield Client(endpoint, prompter)

    def _ids(self, prompter: Prompter, number: int) -> tuple[int, ...]:
        return Tokenizer.load(self.folder).render(prompter.conversation(ONE, number)).ids


def _check(answers: Sequence[Answer]) -> None:
    fault = next((answer.error for answer in answers if answer.error is not None), None)
    if fault is not None:
        raise RequestError(f"a request of the benchmark failed: {fault}")


def _rate(run: Measured) -> float:
    """Tok/s of all answers together, from the first request to the end of the last answer."""
    return _tokens(run.answers) / run.wall_s


def _first_token_s(runs: Sequence[Measured]) -> float:
    return statistics.median(answer.ttft_s or answer.e2e_s for run in runs for answer in run.answers)


def _tokens(answers: Sequence[Answer]) -> int:
    return sum(answer.completion_tokens for answer in answers)


def _cached(answers: Sequence[Answer]) -> str:
    """How much of the prompts was in a cache, in words."""
    read = sum(answer.prompt_tokens for answer in answers)
    cached = [answer.cached_tokens for answer in answers if answer.cached_tokens is not None]
    return f"{sum(cached) / read:.0%} of the prompts cached" if cached else "cache unknown"
