"""What `mlxctl plan` predicts against what 2 and 3 workers on this machine then do."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxctl.checkpoint import read_model_facts
from mlxctl.checkpoint.speed import Speed, measure_speed
from mlxctl.facts import ModelFacts
from mlxctl.launch.probe import probe_local
from mlxctl.plan import make_plan
from mlxctl.plan.prediction import Prediction, predict
from mlxctl.profile import Profile
from mlxctl.request import GenerationRequest
from tests.benchmarks.models import write_qwen3
from tests.pipelines import RunningPipeline, local_profile, running_pipeline

pytestmark = pytest.mark.performance

PROMPT_TOKENS = 256
TOKENS = 24
STREAMS = 8
ROUNDS = 3
TARGET = 0.25


def predicted(profile: Profile, model: ModelFacts, speed: Speed) -> Prediction:
    nodes = probe_local(profile)
    figures: dict[str, Any] = {"bandwidth_bytes_per_s": speed.bytes_per_s, "flops": speed.flops}
    timed = [
        replace(
            node,
            **figures,
            parallel_workers=max(1.0, node.parallel_workers / speed.cores),
            sources={**node.sources, **dict.fromkeys(figures, "measured")},
        )
        for node in nodes
    ]
    return predict(make_plan(profile, nodes, model), timed, model, PROMPT_TOKENS)


async def arrivals(pipeline: RunningPipeline, seed: int, prompt_tokens: int) -> list[float]:
    """When each token came, from the moment of asking."""
    prompt = tuple((seed * 31 + index) % 8000 for index in range(prompt_tokens))
    started_s, times_s = time.perf_counter(), []
    async for piece in pipeline.engine.submit(GenerationRequest(prompt, TOKENS)):
        times_s.extend([time.perf_counter() - started_s] * len(piece))
    return times_s


async def measured_round(pipeline: RunningPipeline) -> tuple[float, float, float]:
    """Seconds to the first token, one stream's tokens a second, and those of many short-prompted streams together."""
    alone = await arrivals(pipeline, 1, PROMPT_TOKENS)
    many = await asyncio.gather(*(arrivals(pipeline, seed, 8) for seed in range(STREAMS)))
    start, end = max(times[0] for times in many), min(times[-1] for times in many)
    inside = sum(start < moment <= end for times in many for moment in times)
    return alone[0], (TOKENS - 1) / (alone[-1] - alone[0]), inside / (end - start)


@pytest.mark.parametrize("workers", [2, 3])
def test_prediction_against_measurement(
    workers: int, benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_qwen3(tmp_path)
    profile, model = local_profile(workers, str(path)), read_model_facts(path)

    async def rounds() -> tuple[list[Speed], list[tuple[float, float, float]]]:
        speeds, found = [], []
        async with running_pipeline(profile) as pipeline:
            await measured_round(pipeline)
            for _ in range(ROUNDS):  # interleaved: what else runs on this machine changes from minute to minute
                speeds.append(measure_speed(model))
                found.append(await measured_round(pipeline))
        return speeds, found

    speeds, found = benchmark.pedantic(lambda: asyncio.run(rounds()), rounds=1)
    predictions = [predicted(profile, model, speed) for speed in speeds]
    told = zip(*((p.ttft_s, p.one_stream.tokens_per_s, p.all_lanes.tokens_per_s) for p in predictions), strict=True)
    with capsys.disabled():
        print(f"\n{workers} workers, prompt of {PROMPT_TOKENS} tokens; at most {TARGET:.0%} off")
        names = ("first token, s", "one stream, tok/s", f"{STREAMS} streams, tok/s")
        for name, said, was in zip(names, told, zip(*found, strict=True), strict=True):
            expected, real = statistics.median(said), statistics.median(was)
            benchmark.extra_info[name] = {"predicted": expected, "measured": real}
            print(f"  {name:18} predicted {expected:8.2f}  measured {real:8.2f}  off by {expected / real - 1:+.0%}")
