"""Workers in their own processes behind the engine: same tokens, fair, cancellable, and honest when one is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from mlx_lm import stream_generate
from mlx_lm.utils import load_model, load_tokenizer

from mlxctl.canary import MODEL_DIR
from mlxctl.errors import Degraded, LaunchError, StageLost
from mlxctl.request import GenerationRequest, Sampling
from mlxctl.rpc import shard_pb2
from mlxctl.wire.parts import split
from tests.canary_expectations import EXPECTATIONS, Expectation
from tests.pipelines import RunningPipeline, local_profile, running_pipeline
from tests.tiny_models import write_checkpoint

pytestmark = pytest.mark.integration

FEW = ("who-are-you-thinking", "memory-name", "unicode")
MANY = (*FEW, "memory-city-after-three-turns", "tool-call", "tool-response-thinking", "count-to-10", "needle")


class Unsplit:
    """mlx-lm alone, in this process."""

    def __init__(self, path: Path) -> None:
        self.model = load_model(path)[0]
        self.tokenizer = load_tokenizer(MODEL_DIR)

    def prompt(self, case: Expectation) -> tuple[int, ...]:
        ids: Sequence[int] = self.tokenizer.apply_chat_template(
            list(case.messages),
            tools=list(case.tools) or None,
            add_generation_prompt=True,
            enable_thinking=case.thinking,
        )
        return tuple(ids)

    def tokens(self, prompt: Sequence[int], max_tokens: int) -> list[int]:
        answer = [piece.token for piece in stream_generate(self.model, self.tokenizer, list(prompt), max_tokens)]
        return answer[:-1] if answer[-1] in self.stop_ids else answer

    @property
    def stop_ids(self) -> frozenset[int]:
        return frozenset(self.tokenizer.eos_token_ids)


@pytest.fixture(scope="module")
def canary() -> Unsplit:
    return Unsplit(MODEL_DIR)


@pytest.fixture(scope="module")
def unsplit_answers(canary: Unsplit) -> dict[str, list[int]]:
    """mlx-lm's own tokens."""
    cases = [EXPECTATIONS[case_id] for case_id in MANY]
    return {case.id: canary.tokens(canary.prompt(case), case.max_tokens) for case in cases}


def ask(canary: Unsplit, case: Expectation, **fields: Any) -> GenerationRequest:
    return GenerationRequest(canary.prompt(case), case.max_tokens, stop_ids=canary.stop_ids, **fields)


@pytest.mark.model
@pytest.mark.parametrize(("stage_count", "case_ids"), [(1, FEW), (2, MANY), (3, FEW), (8, MANY)])
async def test_every_answer_is_the_unsplit_models_token_for_token(
    stage_count: int, case_ids: Sequence[str], canary: Unsplit, unsplit_answers: dict[str, list[int]]
) -> None:
    cases = [EXPECTATIONS[case_id] for case_id in case_ids]
    async with running_pipeline(local_profile(stage_count)) as pipeline:
        assert len(pipeline.engine.stages) == stage_count
        answers = await asyncio.gather(*(pipeline.tokens(ask(canary, case)) for case in cases))
    for case, answer in zip(cases, answers, strict=True):
        assert answer == unsplit_answers[case.id], case.id
        assert canary.tokenizer.decode(answer) == case.text, case.id


@pytest.mark.model
@pytest.mark.parametrize("architecture", ["gemma3_text", "mamba2"])
async def test_other_architectures_cross_process_boundaries_too(architecture: str, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, architecture)
    unsplit = Unsplit(path)
    prompt = tuple(range(3, 40))
    async with running_pipeline(local_profile(3, str(path))) as pipeline:
        answer = await pipeline.tokens(GenerationRequest(prompt, 24))
    assert answer == unsplit.tokens(prompt, 24)


async def test_a_seeded_answer_repeats_whatever_runs_beside_it(canary: Unsplit) -> None:
    case = EXPECTATIONS["who-are-you"]
    seeded = ask(canary, case, sampling=Sampling(temperature=1.5, seed=11))
    async with running_pipeline(local_profile(2)) as pipeline:
        alone = await pipeline.tokens(seeded)
        other = ask(canary, case, sampling=Sampling(temperature=1.5, seed=12))
        crowd = await asyncio.gather(*(pipeline.tokens(r) for r in (other, seeded, other, seeded)))
    assert crowd[1] == crowd[3] == alone
    assert crowd[0] == crowd[2]


async def test_a_cancelled_request_is_freed_on_every_stage(canary: Unsplit) -> None:
    request = GenerationRequest(canary.prompt(EXPECTATIONS["who-are-you"]), 2000)
    async with running_pipeline(local_profile(2)) as pipeline:
        generation = pipeline.engine.submit(request)
        async for _ in generation:
            break
        assert {lanes(pipeline, stage) for stage in range(2)} == {1}
        generation.cancel()
        await until(lambda: pipeline.engine.lanes().rows == ())
        kept = pipeline.engine.lanes().kept_sequences
        await until(lambda: {lanes(pipeline, stage) for stage in range(2)} == {kept})
        assert (kept, pipeline.engine.counts().cancelled) == (1, 1)
        case = EXPECTATIONS["hello"]
        assert canary.tokenizer.decode(await pipeline.tokens(ask(canary, case))) == case.text


async def test_a_killed_worker_fails_its_requests_by_name_and_refuses_new_ones(canary: Unsplit) -> None:
    request = GenerationRequest(canary.prompt(EXPECTATIONS["who-are-you"]), 3000)
    async with running_pipeline(local_profile(3)) as pipeline:
        generation = pipeline.engine.submit(request)
        with pytest.raises(StageLost) as caught:
            async for _ in generation:
                os.kill(pipeline.launch.workers[1].id.pid, signal.SIGKILL)
        assert (caught.value.node, caught.value.stage) == ("w1", 1)
        with pytest.raises(Degraded, match="w1"):
            pipeline.engine.submit(request)


async def test_a_stopped_worker_is_noticed_by_its_lease(canary: Unsplit) -> None:
    request = GenerationRequest(canary.prompt(EXPECTATIONS["who-are-you"]), 3000)
    async with running_pipeline(local_profile(2)) as pipeline:
        generation = pipeline.engine.submit(request)
        victim = pipeline.launch.workers[0].id.pid
        with pytest.raises(StageLost) as caught:
            async for _ in generation:
                os.kill(victim, signal.SIGSTOP)
        assert caught.value.node == "w0"


async def test_a_worker_without_a_lease_ends_itself() -> None:
    async with running_pipeline(local_profile(2)) as pipeline:
        assert pipeline.launch.leases is not None
        pipeline.launch.leases.close()
        pids = [worker.id.pid for worker in pipeline.launch.workers]
        await until(lambda: not any(running(pid) for pid in pids), timeout_s=20)


async def test_a_worker_that_dies_while_loading_fails_the_launch_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = local_profile(2)

    def kill_when_spawned(event: Any) -> None:
        if event.title == "Start workers" and event.node == "w1":
            os.kill(int(event.detail.split()[1].rstrip(",")), signal.SIGKILL)

    with pytest.raises((LaunchError, StageLost)) as caught:
        async with running_pipeline(profile, kill_when_spawned):
            pytest.fail("it came up")
    assert caught.value.node == "w1"


async def test_a_corrupted_or_foreign_frame_is_refused_with_a_typed_status() -> None:
    async with running_pipeline(local_profile(1)) as pipeline:
        connection = pipeline.launch.connections[0]
        pipeline.engine.close()
        (good,) = split([b"\x00" * 64], epoch=connection.deployment.epoch, frame_id=0)
        (foreign,) = split([b"\x00" * 64], epoch=connection.deployment.epoch + 1, frame_id=0)
        cases = {
            good[:-1] + b"\xff": grpc.StatusCode.DATA_LOSS,
            foreign: grpc.StatusCode.FAILED_PRECONDITION,
            b"nonsense": grpc.StatusCode.DATA_LOSS,
        }
        for part, status in cases.items():
            assert await asyncio.to_thread(refusal, connection, part) == status
        told = await asyncio.to_thread(connection.prolong)
        assert "shorter than its header" in told.failure and not told.broken_edges


async def test_a_pipeline_that_is_closed_in_good_order_has_no_broken_edges() -> None:
    async with running_pipeline(local_profile(3)) as pipeline:
        await asyncio.to_thread(pipeline.engine.close)
        await asyncio.sleep(0.5)  # what breaks does so at once
        told = await asyncio.gather(*(asyncio.to_thread(c.prolong) for c in pipeline.launch.connections))
        assert not any(reply.broken_edges or reply.failure for reply in told)


async def test_only_the_last_stage_feeds_the_first() -> None:
    async with running_pipeline(local_profile(2)) as pipeline:
        for connection in pipeline.launch.connections:
            call = connection.stub.feed(iter([]), metadata=(("deployment", connection.deployment.id),), timeout=10)
            with pytest.raises(grpc.RpcError) as caught:
                await asyncio.to_thread(list, call)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def refusal(connection: Any, part: bytes) -> grpc.StatusCode:
    for _ in range(50):
        call = connection.stub.forward(iter([part]), metadata=(("deployment", connection.deployment.id),), timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        if caught.value.code() != grpc.StatusCode.ALREADY_EXISTS:  # the stream before is still being closed
            return caught.value.code()
        time.sleep(0.05)
    raise AssertionError("the edge stayed taken")


def lanes(pipeline: RunningPipeline, stage: int) -> int:
    reply: shard_pb2.StatusReply = pipeline.launch.connections[stage].status()
    return reply.lanes


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition: Any, timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.02)
