"""The `/status` document: asks the workers once a second, answers from what they last said. Used by the daemon."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Any

import psutil

import mlxctl
from mlxctl.coordinator.engine import PipelineEngine
from mlxctl.errors import StageLost
from mlxctl.launch.launch import Launch
from mlxctl.rpc import shard_pb2

SCHEMA = "mlxctl.status/1"
POLL_S = 1.0


@dataclass(slots=True)
class StageReading:
    """What a worker last said, and its busy share since the reading before."""

    reply: shard_pb2.StatusReply
    busy_share: float
    lost: bool = False

    def next(self, reply: shard_pb2.StatusReply) -> StageReading:
        passed_s = reply.up_s - self.reply.up_s
        share = (reply.profile.busy_s - self.reply.profile.busy_s) / passed_s if passed_s > 0 else 0.0
        return StageReading(reply, min(max(share, 0.0), 1.0))


class StatusBoard:
    """Readings of all stages of one launched cluster, kept fresh by `run`."""

    def __init__(self, launch: Launch, engine: PipelineEngine, base_url: str) -> None:
        self._launch = launch
        self._engine = engine
        self._base_url = base_url
        self._since_s = time.monotonic()
        self._readings = [StageReading(shard_pb2.StatusReply(), 0.0) for _ in launch.connections]
        self.draining = False

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(POLL_S)

    async def refresh(self) -> None:
        """Ask every worker once."""
        await asyncio.gather(*(asyncio.to_thread(self._read, i) for i in range(len(self._readings))))
        surplus = max(self._surplus_share(i) for i in range(len(self._readings)))
        if surplus > 0:
            self._engine.relieve(surplus)

    def _surplus_share(self, index: int) -> float:
        """What of a stage's caches is more than was planned for."""
        held, planned = self._readings[index].reply.cache_bytes, self._launch.connections[index].stage.kv_bytes
        return 1 - planned / held if held > planned else 0.0

    def _read(self, index: int) -> None:
        try:
            reply = self._launch.connections[index].status()
        except StageLost:
            self._readings[index] = StageReading(self._readings[index].reply, 0.0, lost=True)
        else:
            self._readings[index] = self._readings[index].next(reply)

    @property
    def state(self) -> str:
        if self.draining:
            return "draining"
        return "degraded" if self._engine.problem is not None else "ready"

    def document(self) -> dict[str, Any]:
        """See SCHEMA; sizes in bytes, times in seconds."""
        plan, counts, problem = self._launch.plan, asdict(self._engine.counts()), self._engine.problem
        assert plan is not None
        tokens_generated, tokens_per_s = counts.pop("tokens_generated"), counts.pop("tokens_per_s")
        return {
            "schema": SCHEMA,
            "cluster": self._launch.name,
            "state": self.state,
            "model": plan.model,
            "context": plan.context,
            "concurrency": plan.concurrency,
            "unused": [{"node": unused.node, "reason": unused.reason} for unused in plan.unused],
            "api": self._base_url,
            "uptime_s": round(time.monotonic() - self._since_s, 3),
            "epoch": self._launch.connections[0].deployment.epoch,
            "coordinator": {
                "pid": psutil.Process().pid,
                "rss_bytes": psutil.Process().memory_info().rss,
                "version": mlxctl.__version__,
            },
            "stages": [self._stage(i) for i in range(len(self._readings))],
            "requests": counts,
            "tokens_per_s": round(tokens_per_s, 3),
            "tokens_generated": tokens_generated,
            "lanes": asdict(self._engine.lanes()),
            "steps": self._steps(),
            "problem": problem.line if problem is not None else None,
        }

    def _steps(self) -> dict[str, Any]:
        log = self._engine.steps
        return {
            "steps": log.steps,
            "round_trip_s": round(log.round_trip_s, 6),
            "wire_s": round(log.wire_s, 6),
            "decode_medians": log.decode_medians_s(),
        }

    def _stage(self, index: int) -> dict[str, Any]:
        reading, worker = self._readings[index], self._launch.workers[index]
        stage, reply = self._launch.connections[index].stage, reading.reply
        return {
            "stage": stage.index,
            "node": stage.node,
            "host": next(node.host for node in self._launch.profile.nodes if node.name == stage.node),
            "rank": stage.rank,
            "pid": worker.id.pid,
            "address": worker.address,
            "state": "lost" if reading.lost or reply.failure else "ready",
            "layers": [stage.start, stage.stop],
            "weight_bytes": stage.weight_bytes,
            "kv_bytes": stage.kv_bytes,
            "cache_bytes": reply.cache_bytes,
            "budget_bytes": stage.budget_bytes,
            "active_bytes": reply.active_bytes,
            "peak_bytes": reply.peak_bytes,
            "rss_bytes": reply.rss_bytes,
            "busy_share": round(reading.busy_share, 4),
            "steps": reply.steps,
            "caches": reply.lanes,
            "profile": _profile(reply),
            "decode_medians": self._engine.steps.stage_medians_s(index),
        }


def _profile(reply: shard_pb2.StatusReply) -> dict[str, Any]:
    """Where the stage's time went since the load, in seconds; `wait_s` is without work."""
    profile = reply.profile
    return {
        "steps": reply.steps,
        "receive_s": round(profile.receive_s, 6),
        "graph_s": round(profile.graph_s, 6),
        "compute_s": round(profile.busy_s, 6),
        "serialize_s": round(profile.serialize_s, 6),
        "wait_s": round(max(0.0, reply.up_s - profile.busy_s), 6),
        "sent_bytes": profile.sent_bytes,
        "foreseen_steps": profile.foreseen_steps,
    }
