"""The plan's memory column against what workers of unequal size then hold."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mlxctl.coordinator import pacing
from mlxctl.facts import CACHE_STEP_TOKENS, CHUNK_TOKENS
from mlxctl.profile import Profile
from mlxctl.request import GenerationRequest
from mlxctl.rpc import shard_pb2
from tests.pipelines import RunningPipeline, running_pipeline
from tests.tiny_models import write_checkpoint

pytestmark = [pytest.mark.integration, pytest.mark.memory]

CONTEXT = 2 * CACHE_STEP_TOKENS
SEQUENCES = 4
TOKENS = 100


def one_large_and_three_small(model: Path) -> Profile:
    """1 x 64 GB + 3 x 16 GB at a hundredth of the size."""
    sizes = {"studio": "640MB", "mini1": "305MB", "mini2": "305MB", "mini3": "305MB"}
    nodes = [{"name": name, "host": "localhost", "memory": size} for name, size in sizes.items()]
    wanted = {"name": "unequal", "model": str(model), "nodes": nodes, "context": CONTEXT, "concurrency": SEQUENCES}
    return Profile.from_json(json.dumps(wanted))


def local_profile(model: Path, stages: int, context: int, sequences: int) -> Profile:
    nodes = [{"name": f"w{index}", "host": "localhost", "memory": "1GB"} for index in range(stages)]
    wanted = {"name": "full", "model": str(model), "nodes": nodes, "context": context, "concurrency": sequences}
    return Profile.from_json(json.dumps(wanted))


async def fullest(pipeline: RunningPipeline, tokens: int = TOKENS, uneven: int = 0) -> list[shard_pb2.StatusReply]:
    """Each worker's status when its caches held most, while as many requests as planned filled the context, each with a
    prompt that is `uneven` tokens shorter than the last one's.
    """
    plan = pipeline.launch.plan
    assert plan is not None
    requests = [
        GenerationRequest(tuple((seed + index) % 500 for index in range(plan.context - tokens - seed * uneven)), tokens)
        for seed in range(plan.concurrency)
    ]
    running = asyncio.gather(*(pipeline.tokens(request) for request in requests))
    seen = [connection.status() for connection in pipeline.launch.connections]
    while not running.done():
        for index, connection in enumerate(pipeline.launch.connections):
            status = await asyncio.to_thread(connection.status)
            if status.lanes and status.cache_bytes >= seen[index].cache_bytes:
                seen[index] = status
    await running
    return seen


async def test_unequal_workers_hold_what_was_planned_for_them_and_stay_within_their_budgets(tmp_path: Path) -> None:
    wide: dict[str, Any] = {"hidden_size": 256, "head_dim": 64, "num_key_value_heads": 4, "intermediate_size": 1024}
    model = write_checkpoint(tmp_path / "wide", "qwen3", max_position_embeddings=CONTEXT, **wide)
    async with running_pipeline(one_large_and_three_small(model)) as pipeline:
        plan = pipeline.launch.plan
        assert plan is not None
        assert {stage.node for stage in plan.stages} == {"studio", "mini1", "mini2", "mini3"}
        for stage, status in zip(plan.stages, await fullest(pipeline), strict=True):
            print(f"{stage.node}: planned {stage.resident_bytes}, held {status.active_bytes}, peak {status.peak_bytes}")
            assert status.cache_bytes == pytest.approx(stage.kv_bytes, rel=0.01)
            assert status.active_bytes == pytest.approx(stage.resident_bytes, rel=0.05)
            assert status.peak_bytes <= stage.resident_bytes + stage.activation_bytes
            assert status.rss_bytes <= stage.budget_bytes


def keys_as_large_as_all_else(path: Path) -> Path:
    """A model whose layers hold far more keys and values than anything else, so that joining a lane takes most."""
    narrow: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 8, "head_dim": 64}
    return write_checkpoint(path, "llama", num_key_value_heads=8, max_position_embeddings=CONTEXT, **narrow)


def scores_with_a_bias(path: Path) -> Path:
    """A model that makes its own scores, which MLX's attention is then given as a bias for each head."""
    heads: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 8}
    return write_checkpoint(path, "deepseek_v3", max_position_embeddings=4 * CONTEXT, **heads)


async def assert_within_plan(profile: Profile, tokens: int, uneven: int = 0) -> None:
    async with running_pipeline(profile) as pipeline:
        plan = pipeline.launch.plan
        assert plan is not None
        await fullest(pipeline, tokens, uneven)
        for stage, connection in zip(plan.stages, pipeline.launch.connections, strict=True):
            beyond = connection.status().peak_bytes - stage.resident_bytes
            print(f"{stage.node}: {beyond} bytes beyond what stays, {stage.activation_bytes} planned")
            assert beyond <= stage.activation_bytes


@pytest.mark.parametrize("stages", [1, 2])
async def test_prompts_computed_in_the_largest_chunks_take_no_more_than_planned(
    stages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "LEAST_CHUNK_ALONE", CHUNK_TOKENS[False])
    await assert_within_plan(local_profile(scores_with_a_bias(tmp_path / "model"), stages, 3 * CONTEXT, 1), 20)


@pytest.mark.parametrize("stages", [1, 2])
async def test_sequences_that_join_lanes_take_no_more_than_planned(stages: int, tmp_path: Path) -> None:
    profile = local_profile(keys_as_large_as_all_else(tmp_path / "model"), stages, CONTEXT, 8)
    await assert_within_plan(profile, 200, uneven=3)
