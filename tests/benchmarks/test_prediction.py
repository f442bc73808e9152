"""What `mlxctl plan` predicts against what 2 and 3 workers on this machine then do.

Predictions are for a machine that does nothing else; how many cores others kept busy meanwhile is printed too.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from mlxctl.bench.pinning import cores, pin
from mlxctl.checkpoint import read_model_facts
from mlxctl.checkpoint.speed import Speed, measure_speed
from mlxctl.facts import ModelFacts
from mlxctl.launch.probe import probe_local
from mlxctl.plan import make_plan
from mlxctl.plan.prediction import predict
from mlxctl.profile import Profile
from mlxctl.request import GenerationRequest
from tests.benchmarks.models import write_qwen3
from tests.pipelines import RunningPipeline, local_profile, running_pipeline

pytestmark = pytest.mark.performance

PROMPT_TOKENS = 257  # the last token is the first step's: what remains are whole chunks
SHORT_PROMPT_TOKENS = 8
TOKENS = 24
STREAMS = 8
ROUNDS = 3
TRIALS = 5
TARGET = 0.2


class Told(NamedTuple):
    """Seconds to the first token, one stream's tokens a second, and those of many short-prompted streams together."""

    ttft_s: float
    one_tps: float
    many_tps: float


def predicted(profile: Profile, model: ModelFacts, speed: Speed) -> Told:
    nodes = probe_local(profile)
    plan = make_plan(profile, nodes, model)
    timed = [speed.of(node) for node in nodes]
    alone, many = (predict(plan, timed, model, tokens) for tokens in (PROMPT_TOKENS, SHORT_PROMPT_TOKENS))
    return Told(alone.ttft_s, alone.one_stream.tokens_per_s, many.all_lanes.tokens_per_s)


async def arrivals(pipeline: RunningPipeline, seed: int, prompt_tokens: int) -> list[float]:
    """When each token came, from the moment of asking."""
    prompt = tuple((seed * 31 + index) % 8000 for index in range(prompt_tokens))
    started_s, times_s = time.perf_counter(), []
    async for piece in pipeline.engine.submit(GenerationRequest(prompt, TOKENS)):
        times_s.extend([time.perf_counter() - started_s] * len(piece))
    return times_s


async def measured_round(pipeline: RunningPipeline, number: int) -> Told:
    """No prompt begins as one of another round did: what is in the prefix cache need not be computed."""
    alone = await arrivals(pipeline, 1000 * number, PROMPT_TOKENS)
    many = await asyncio.gather(
        *(arrivals(pipeline, 1000 * number + seed, SHORT_PROMPT_TOKENS) for seed in range(1, STREAMS + 1))
    )
    start, end = max(times[0] for times in many), min(times[-1] for times in many)
    inside = sum(start < moment <= end for times in many for moment in times)
    return Told(alone[0], (TOKENS - 1) / (alone[-1] - alone[0]), inside / (end - start))


def busy_s() -> tuple[float, float]:
    """Processor seconds that anybody and that we (and our workers) have used so far."""
    times = psutil.cpu_times()
    ours = psutil.Process()
    used = [process.cpu_times() for process in (ours, *ours.children(recursive=True))]
    return sum(times) - times.idle - getattr(times, "iowait", 0.0), sum(each.user + each.system for each in used)


@pytest.mark.parametrize("workers", [2, 3])
def test_prediction_against_measurement(
    workers: int, benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_qwen3(tmp_path)
    profile, model = local_profile(workers, str(path)), read_model_facts(path)

    async def rounds() -> tuple[list[Told], list[Told], float]:
        told, found = [], []
        async with running_pipeline(profile) as pipeline:
            for index, worker in enumerate(pipeline.launch.workers if workers <= len(cores()) else ()):
                pin(worker.id.pid, [index])
            for number in range(TRIALS):  # sizes of chunks are tried
                await arrivals(pipeline, -number, PROMPT_TOKENS)
            await measured_round(pipeline, 0)
            began_s, before = time.perf_counter(), busy_s()
            for number in range(1, ROUNDS + 1):  # interleaved: what else runs here changes from minute to minute
                told.append(predicted(profile, model, measure_speed(model)))
                found.append(await measured_round(pipeline, number))
            after = busy_s()
            others = (after[0] - before[0] - after[1] + before[1]) / (time.perf_counter() - began_s)
        return told, found, max(0.0, others)

    told, found, others = benchmark.pedantic(lambda: asyncio.run(rounds()), rounds=1)
    with capsys.disabled():
        what = f"{workers} workers, prompt of {PROMPT_TOKENS} tokens; at most {TARGET:.0%} off"
        print(f"\n{what}; others kept {others:.1f} of {psutil.cpu_count()} cores busy")
        names = ("first token, s", "one stream, tok/s", f"{STREAMS} streams, tok/s")
        for name, said, was in zip(names, zip(*told, strict=True), zip(*found, strict=True), strict=True):
            expected, real = statistics.median(said), statistics.median(was)
            off = statistics.median(a / b for a, b in zip(said, was, strict=True)) - 1
            benchmark.extra_info[name] = {"predicted": expected, "measured": real, "off": off, "others": others}
            print(f"  {name:18} predicted {expected:8.2f}  measured {real:8.2f}  off by {off:+.0%}")
