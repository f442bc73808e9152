"""The engine's figures, each of two things measured in turn in one run. Called by `mlxctl bench engine`."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from mlxctl.bench.report import EngineFigure
from mlxctl.bench_engine.figure import in_turn, plain, ratio
from mlxctl.bench_engine.over_http import OverHttp
from mlxctl.bench_engine.pipeline import Baseline, RunningStages, local_profile, running_stages
from mlxctl.bench_engine.wire import wire_figures
from mlxctl.bench_engine.workloads import Decoded, decode, prefill

GROUPS = ("single", "streams", "prefill", "product", "server", "chat", "wire")
IN_PROCESS = frozenset({"single", "streams", "prefill"})
AGAINST_SERVER = frozenset({"server", "chat"})

PROMPT_TOKENS = 16
PROMPT_WARM_UPS = 2  # the first ones try sizes of chunks
UNBATCHED_SEQUENCES = 4
CONTEXT = 2048
MLX_LM = "mlx-lm"

DEFINITIONS = {
    "round": "both sides of a figure, one after the other; who goes first changes from round to round",
    "single": "one stream's tokens a second after its first token, without HTTP, a worker a core; mlx-lm's "
    "generate_step in one process on one core",
    "streams": "streams of one length, all together, tokens a second while all of them run; the law: with t(B) the "
    "time of mlx-lm's step at batch B, N stages give t(S) / t(S/N) over one. Unbatched: each stream in a lane of its "
    "own",
    "prefill": "tokens of a prompt / time to its first token",
    "product": "all tokens of an answer / time from the request to its end, over HTTP with SSE, of a cluster as "
    "`mlxctl up` makes it; mlx_lm.stream_generate on the same cores reads the same tokens and makes as many",
    "server": "tokens of all answers as the server counts them / time from the first request to the last answer's end; "
    "all processes of either server on the same two cores",
    "chat": "time of a conversation whose turns each bring all that was said before",
    "wire": "loopback; frames cut into parts and joined as between stages. Workers that compute nothing pass a frame "
    "on from stage to stage and back to the coordinator",
}


@dataclass(frozen=True, slots=True)
class EngineBench:
    """What is measured: `model` at `folder`, on 1 and on `stages` stages, each worker on a core of its own.

    `sequences` are totals of streams; `groups` are some of GROUPS. Streams are measured over `tokens` tokens each.
    """

    model: str
    folder: Path
    stages: int
    rounds: int
    sequences: Sequence[int]
    groups: Collection[str] = GROUPS
    tokens: int = 48
    long_prompt_tokens: int = 1500

    async def figures(self, say: Callable[[str], None]) -> AsyncIterator[EngineFigure]:
        """The figures as they come. Raises what bringing up a cluster or mlx_lm.server raises."""
        if IN_PROCESS & set(self.groups):
            async for figure in self._in_process(say):
                yield figure
        http = OverHttp(self.model, self.folder, self.rounds)
        for group, title, figures in (
            ("product", "one stream through the whole product", http.product),
            ("server", "clients against mlx_lm.server", http.server),
            ("chat", "a chat against mlx_lm.server", http.chat),
            ("wire", "the wire", lambda: wire_figures(self.stages, self.rounds)),
        ):
            if group in self.groups:
                say(title)
                async for figure in figures():
                    yield figure

    async def _in_process(self, say: Callable[[str], None]) -> AsyncIterator[EngineFigure]:
        async with AsyncExitStack() as stack:
            say("starting mlx-lm, one stage, several stages")
            baseline = await stack.enter_async_context(Baseline(self.folder))
            one = await stack.enter_async_context(self._running(1))
            several = await stack.enter_async_context(self._running(self.stages))
            for pipeline in (one, several):
                await decode(pipeline, PROMPT_TOKENS, 8)
            await baseline.decode(PROMPT_TOKENS, 8)
            if "single" in self.groups:
                say("one stream")
                for pipeline in (one, several):
                    yield await self._single(baseline, pipeline)
            for count in self.sequences if "streams" in self.groups else ():
                say(f"{count} streams")
                for figure in await self._together(baseline, one, several, count):
                    yield figure
            if "prefill" in self.groups:
                say("a long prompt")
                yield await self._prefill(one, several)
        if "streams" in self.groups:
            say("unbatched streams")
            yield await self._unbatched()

    def _running(self, stages: int, *, batchable: bool = True) -> AbstractAsyncContextManager[RunningStages]:
        profile = local_profile(stages, self.model, concurrency=max(self.sequences, default=8), context=CONTEXT)
        return running_stages(profile, pinned=True, batchable=batchable)

    async def _decoded(self, pipeline: RunningStages, count: int = 1) -> Decoded:
        return await decode(pipeline, PROMPT_TOKENS, self.tokens, count)

    async def _single(self, baseline: Baseline, pipeline: RunningStages) -> EngineFigure:
        found = await in_turn(
            self.rounds, lambda _: self._decoded(pipeline), lambda _: baseline.decode(PROMPT_TOKENS, self.tokens)
        )
        token_ms = 1000 / statistics.median(theirs for _, theirs in found)
        beside_ms = statistics.median(ours.beside_computing_ms for ours, _ in found)
        stages = _stages(pipeline.stages)
        return ratio(
            "single",
            f"one stream: {stages} / mlx-lm",
            (stages, MLX_LM),
            "tok/s",
            [(ours.tok_per_s, theirs) for ours, theirs in found],
            wanted=0.93,
            note=f"{token_ms:.1f} ms a token in mlx-lm; {beside_ms:.2f} ms of ours not computing",
        )

    async def _together(
        self, baseline: Baseline, one: RunningStages, several: RunningStages, count: int
    ) -> list[EngineFigure]:
        share = max(1, count // self.stages)
        found, laws = [], []
        for number in range(self.rounds):
            sides = (several, one) if number % 2 == 0 else (one, several)
            made = {pipeline.stages: await self._decoded(pipeline, count) for pipeline in sides}
            found.append((made[several.stages], made[one.stages]))
            whole_s = count / await baseline.decode(PROMPT_TOKENS, self.tokens, count)
            laws.append(whole_s / (share / await baseline.decode(PROMPT_TOKENS, self.tokens, share)))
        law = statistics.median(laws)
        stages = _stages(self.stages)
        lanes = " and ".join("+".join(map(str, side.lanes)) for side in found[-1])
        figure = ratio(
            "streams",
            f"{count} streams: {stages} / 1",
            (stages, _stages(1)),
            "tok/s",
            [(many.tok_per_s, alone.tok_per_s) for many, alone in found],
            wanted=0.9 * law,
            note=f"the law gives {law:.2f}; lanes {lanes}",
        )
        busy = [many.busy_share for many, _ in found]
        name = f"{count} streams: busy share of the slowest of {stages}"
        return [figure, plain("streams", name, stages, "of the time", busy, wanted=0.9)]

    async def _prefill(self, one: RunningStages, several: RunningStages) -> EngineFigure:
        for pipeline in (one, several) * PROMPT_WARM_UPS:
            await prefill(pipeline, self.long_prompt_tokens)
        pairs = await in_turn(
            self.rounds,
            lambda _: prefill(several, self.long_prompt_tokens),
            lambda _: prefill(one, self.long_prompt_tokens),
        )
        stages = _stages(self.stages)
        name = f"a prompt of {self.long_prompt_tokens} tokens: {stages} / 1"
        return ratio("prefill", name, (stages, _stages(1)), "tok/s", pairs, wanted=1.5)

    async def _unbatched(self) -> EngineFigure:
        async with self._running(1, batchable=False) as one, self._running(self.stages, batchable=False) as several:
            for pipeline in (one, several):
                await decode(pipeline, PROMPT_TOKENS, 8, UNBATCHED_SEQUENCES)
            found = await in_turn(
                self.rounds,
                lambda _: self._decoded(several, UNBATCHED_SEQUENCES),
                lambda _: self._decoded(one, UNBATCHED_SEQUENCES),
            )
        stages = _stages(self.stages)
        return ratio(
            "streams",
            f"{UNBATCHED_SEQUENCES} unbatched streams: {stages} / 1",
            (stages, _stages(1)),
            "tok/s",
            [(many.tok_per_s, alone.tok_per_s) for many, alone in found],
            wanted=1.75,
        )


def _stages(count: int) -> str:
    return f"{count} stage{'' if count == 1 else 's'}"
