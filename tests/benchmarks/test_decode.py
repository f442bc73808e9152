"""One stream through two stages against mlx-lm in one process, in interleaved rounds of one run."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from mlx_lm import stream_generate
from mlx_lm.utils import load_model, load_tokenizer

from mlxctl.canary import MODEL_DIR
from mlxctl.request import GenerationRequest
from tests.benchmarks.models import write_qwen3
from tests.pipelines import RunningPipeline, local_profile, running_pipeline

pytestmark = pytest.mark.performance

PROMPT = tuple(range(5, 21))
TOKENS = 48
ROUNDS = 7
TARGET = 0.90


def mlx_lm_tok_per_s(model: Any, tokenizer: Any) -> float:
    times_s = []
    for _ in stream_generate(model, tokenizer, list(PROMPT), max_tokens=TOKENS):
        times_s.append(time.perf_counter())
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])


async def pipeline_tok_per_s(pipeline: RunningPipeline) -> float:
    times_s = []
    async for piece in pipeline.engine.submit(GenerationRequest(PROMPT, TOKENS)):
        times_s.extend([time.perf_counter()] * len(piece))
    return (len(times_s) - 1) / (times_s[-1] - times_s[0])


def test_two_stages_against_mlx_lm_single_stream(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_qwen3(tmp_path)
    model, tokenizer = load_model(path)[0], load_tokenizer(MODEL_DIR)
    tokenizer.eos_token_ids = []

    async def rounds() -> list[tuple[float, float]]:
        async with running_pipeline(local_profile(2, str(path))) as pipeline:
            mlx_lm_tok_per_s(model, tokenizer)
            await pipeline_tok_per_s(pipeline)
            return [(mlx_lm_tok_per_s(model, tokenizer), await pipeline_tok_per_s(pipeline)) for _ in range(ROUNDS)]

    pairs = benchmark.pedantic(lambda: asyncio.run(rounds()), rounds=1, iterations=1)
    ratios = sorted(ours / theirs for theirs, ours in pairs)
    theirs, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    benchmark.extra_info.update(mlx_lm_tok_per_s=theirs, two_stages_tok_per_s=ours, ratio=statistics.median(ratios))
    with capsys.disabled():
        print(
            f"\nsingle stream, {1000 / theirs:.1f} ms a token: mlx-lm {theirs:.1f} tok/s, two stages {ours:.1f} tok/s, "
            f"ratio {statistics.median(ratios):.3f} [{ratios[0]:.3f} … {ratios[-1]:.3f}], at least {TARGET}"
        )
