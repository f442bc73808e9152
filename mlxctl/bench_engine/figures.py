"""The engine's figures, each a ratio of two things measured in turn in one run. Called by `mlxctl bench engine`."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from mlxctl.bench_engine.pipeline import Baseline, RunningStages, local_profile, running_stages
from mlxctl.bench_engine.workloads import Decoded, decode, prefill

PROMPT_TOKENS = 16
LONG_PROMPT_TOKENS = 1500
DECODED_TOKENS = 48
UNBATCHED_SEQUENCES = 4


@dataclass(frozen=True, slots=True)
class Figure:
    """`name`: what was divided by what; one ratio for each round; `wanted` at least, where that is known."""

    name: str
    ratios: tuple[float, ...]
    wanted: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    def as_json(self) -> dict[str, object]:
        """For reports."""
        return {"name": self.name, "ratios": list(self.ratios), "wanted": self.wanted, "note": self.note}


@dataclass(frozen=True, slots=True)
class EngineBench:
    """What is measured: `model` at `folder`, on 1 and on `stages` stages, workers pinned to a core each."""

    model: str
    folder: Path
    stages: int
    rounds: int
    sequences: Sequence[int]

    async def figures(self, say: Callable[[str], None]) -> AsyncIterator[Figure]:
        """The figures as they come. Raises what bringing up a cluster raises."""
        async with AsyncExitStack() as stack:
            say("starting mlx-lm, one stage, several stages")
            baseline = await stack.enter_async_context(Baseline(self.folder, pinned=True))
            one = await stack.enter_async_context(self._running(1))
            several = await stack.enter_async_context(self._running(self.stages))
            for pipeline in (one, several):
                await decode(pipeline, PROMPT_TOKENS, 8)
                await prefill(pipeline, LONG_PROMPT_TOKENS)
            await baseline.decode(PROMPT_TOKENS, 8)
            say("one stream")
            for figure in await self._single(baseline, one, several):
                yield figure
            for count in self.sequences:
                say(f"{count} streams")
                for figure in await self._together(baseline, one, several, count):
                    yield figure
            say("a long prompt")
            yield await self._prefill(one, several)
        say("unbatched streams")
        yield await self._unbatched()

    def _running(self, stages: int, *, batchable: bool = True) -> AbstractAsyncContextManager[RunningStages]:
        profile = local_profile(stages, self.model, concurrency=max(self.sequences, default=8), context=2048)
        return running_stages(profile, pinned=True, batchable=batchable)

    async def _single(self, baseline: Baseline, one: RunningStages, several: RunningStages) -> list[Figure]:
        rounds = [
            (
                await baseline.decode(PROMPT_TOKENS, DECODED_TOKENS),
                (await decode(one, PROMPT_TOKENS, DECODED_TOKENS)).tok_per_s,
                (await decode(several, PROMPT_TOKENS, DECODED_TOKENS)).tok_per_s,
            )
            for _ in range(self.rounds)
        ]
        token_ms = 1000 / statistics.median(theirs for theirs, _, _ in rounds)
        note = f"{token_ms:.1f} ms a token in mlx-lm"
        return [
            Figure("one stream: 1 stage / mlx-lm", tuple(ours / theirs for theirs, ours, _ in rounds), 0.93, note),
            Figure(f"one stream: {self.stages} stages / mlx-lm", tuple(o / t for t, _, o in rounds), 0.93, note),
        ]

    async def _together(
        self, baseline: Baseline, one: RunningStages, several: RunningStages, count: int
    ) -> list[Figure]:
        rounds: list[tuple[Decoded, Decoded]] = []
        laws = []
        for _ in range(self.rounds):
            alone = await decode(one, PROMPT_TOKENS, DECODED_TOKENS, count)
            rounds.append((alone, await decode(several, PROMPT_TOKENS, DECODED_TOKENS, count)))
            share = max(1, count // self.stages)
            whole_s = count / await baseline.decode(PROMPT_TOKENS, DECODED_TOKENS, count)
            laws.append(whole_s / (share / await baseline.decode(PROMPT_TOKENS, DECODED_TOKENS, share)))
        law = statistics.median(laws)
        note = f"the law gives {law:.2f}; lanes {_lanes(rounds, 0)} and {_lanes(rounds, 1)}"
        ratios = tuple(many.tok_per_s / alone.tok_per_s for alone, many in rounds)
        busy = tuple(many.busy_share for _, many in rounds)
        return [
            Figure(f"{count} streams: {self.stages} stages / 1", ratios, 0.9 * law, note),
            Figure(f"{count} streams: busy share of the slowest of {self.stages} stages", busy, 0.9),
        ]

    async def _prefill(self, one: RunningStages, several: RunningStages) -> Figure:
        rounds = [
            (await prefill(one, LONG_PROMPT_TOKENS), await prefill(several, LONG_PROMPT_TOKENS))
            for _ in range(self.rounds)
        ]
        name = f"a prompt of {LONG_PROMPT_TOKENS} tokens: {self.stages} stages / 1"
        return Figure(name, tuple(many / alone for alone, many in rounds), 1.5)

    async def _unbatched(self) -> Figure:
        async with self._running(1, batchable=False) as one, self._running(self.stages, batchable=False) as several:
            rounds = []
            for pipeline in (one, several):
                await decode(pipeline, PROMPT_TOKENS, 8, UNBATCHED_SEQUENCES)
            for _ in range(self.rounds):
                alone = await decode(one, PROMPT_TOKENS, DECODED_TOKENS, UNBATCHED_SEQUENCES)
                many = await decode(several, PROMPT_TOKENS, DECODED_TOKENS, UNBATCHED_SEQUENCES)
                rounds.append(many.tok_per_s / alone.tok_per_s)
        return Figure(f"{UNBATCHED_SEQUENCES} unbatched streams: {self.stages} stages / 1", tuple(rounds), 1.75)


def _lanes(rounds: Sequence[tuple[Decoded, Decoded]], side: int) -> str:
    """The lanes of the last round on one side, in words."""
    return "+".join(map(str, rounds[-1][side].lanes))
