"""The weights phase: every node gets the pieces of its layers that it cannot read itself. Run by launch/bringup.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxctl import paths
from mlxctl.checkpoint import ModelWeights, model_files, open_weights
from mlxctl.errors import StoreFull
from mlxctl.launch.phases import FirstError
from mlxctl.launch.stages import StageConnection
from mlxctl.launch.transfer import Transfer
from mlxctl.rpc import shard_pb2

REPORT_EVERY_S = 0.2

OnProgress = Callable[[str, bool, str, float | None], None]


@dataclass(frozen=True, slots=True)
class Missing:
    """What a node lacks: pieces with their sizes, and how many of those bytes it has from an earlier attempt."""

    pieces: Mapping[str, int]
    resumed_bytes: int

    @property
    def size_bytes(self) -> int:
        """Bytes to send."""
        return sum(self.pieces.values()) - self.resumed_bytes


def missing(weights: ModelWeights, start: int, stop: int, held_bytes: Mapping[str, int]) -> Missing:
    """What a node with `held_bytes` (by piece) lacks for layers [start, stop), in the order in which to send it."""
    manifest = weights.manifest
    needed = {piece.name: piece.size_bytes for piece in (manifest.own_entry, *manifest.needed(start, stop))}
    lacking = {name: size for name, size in needed.items() if held_bytes.get(name, 0) < size}
    return Missing(lacking, sum(held_bytes.get(name, 0) for name in lacking))


class Distribution:
    """Brings the weights of one model to the nodes of `connections`.

    `keys` and `sent_bytes` are by stage; a key is empty where the node reads the model's folder. `on_progress` is given
    node, whether that is all, detail and share; it is called from several threads.
    """

    def __init__(self, connections: Sequence[StageConnection], path: Path, name: str, on_progress: OnProgress) -> None:
        self._connections = connections
        self._path = path
        self._name = name
        self._on_progress = on_progress
        self._transfers: list[Transfer] = []
        self._cancelled = False
        self.keys = [""] * len(connections)
        self.sent_bytes = [0] * len(connections)

    def cancel(self) -> None:
        """End what is being sent; nodes keep what they have."""
        self._cancelled = True
        for transfer in list(self._transfers):
            transfer.cancel()

    async def run(self) -> None:
        """Raises StoreFull before anything is sent, CheckpointError, LaunchError."""
        files = model_files(self._path)
        replies = await self._ask(self._connections, files, "")
        distant = [c for c, reply in zip(self._connections, replies, strict=True) if not reply.reads_folder]
        if not distant:
            return
        weights = await asyncio.to_thread(self._open, distant[0].stage.node)
        lacking = [
            _lacking(weights, connection, reply)
            for connection, reply in zip(distant, await self._ask(distant, files, weights.manifest.key), strict=True)
        ]
        async with FirstError() as group:
            for connection, what in zip(distant, lacking, strict=True):
                self.keys[connection.stage.index] = weights.manifest.key
                group.create_task(asyncio.to_thread(self._send, connection, weights, what))

    @staticmethod
    async def _ask(
        connections: Sequence[StageConnection], files: Mapping[str, int], key: str
    ) -> list[shard_pb2.StoreReply]:
        return await asyncio.gather(*(asyncio.to_thread(each.store, files, key) for each in connections))

    def _open(self, node: str) -> ModelWeights:
        meter = Meter(lambda detail, share: self._on_progress(node, False, f"hashing the model, {detail}", share))
        return open_weights(self._path, self._name, paths.hashes_dir(), meter.reached)

    def _send(self, connection: StageConnection, weights: ModelWeights, what: Missing) -> None:
        stage = connection.stage
        if not what.pieces:
            self._on_progress(stage.node, True, "has them from before", None)
            return
        meter = Meter(lambda detail, share: self._on_progress(stage.node, False, detail, share))

        transfer = Transfer(connection, weights, lambda sent_bytes: meter.reached(sent_bytes, what.size_bytes))
        self._transfers.append(transfer)
        if self._cancelled:
            return
        own = weights.manifest.own_entry
        transfer.send_one(own.name, own.size_bytes)
        transfer.send({name: size for name, size in what.pieces.items() if name != own.name})
        self.sent_bytes[stage.index] = transfer.sent_bytes
        resumed = f", {megabytes(what.resumed_bytes)} were there" if what.resumed_bytes else ""
        detail = f"{megabytes(transfer.sent_bytes)} in {len(what.pieces)} pieces{resumed}"
        self._on_progress(stage.node, True, detail, 1.0)


def _lacking(weights: ModelWeights, connection: StageConnection, reply: shard_pb2.StoreReply) -> Missing:
    stage = connection.stage
    what = missing(weights, stage.start, stage.stop, reply.held_bytes)
    if what.size_bytes > reply.free_bytes:
        raise StoreFull(
            f"its weights need {what.size_bytes} bytes more on a disk with {reply.free_bytes} free",
            hint="make room there, or let another node run these layers",
            node=stage.node,
            stage=stage.index,
        )
    return what


class Meter:
    """Turns bytes done into a line with the time left, a few times a second."""

    def __init__(self, tell: Callable[[str, float], None]) -> None:
        self._tell = tell
        self._began_s = self._told_s = time.monotonic()

    def reached(self, done_bytes: int, total_bytes: int) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s < REPORT_EVERY_S or not done_bytes:
            return
        self._told_s = now_s
        left_s = (now_s - self._began_s) * (total_bytes - done_bytes) / done_bytes
        share = min(done_bytes / max(total_bytes, 1), 1.0)
        self._tell(f"{megabytes(done_bytes)} of {megabytes(total_bytes)}, {max(left_s, 0.0):.0f} s left", share)


def megabytes(size_bytes: int) -> str:
    """1234567 → "1.2 MB"."""
    return f"{size_bytes / 1e6:.1f} MB"
