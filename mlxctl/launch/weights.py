"""The weights phase: every node gets the pieces of its layers that it cannot read itself. Run by launch/bringup.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlxctl import paths
from mlxctl.checkpoint import ModelWeights, beside_loop, model_files, open_weights, origin_of
from mlxctl.errors import StoreFull
from mlxctl.launch.phases import FirstError
from mlxctl.launch.stages import StageConnection
from mlxctl.launch.transfer import Transfer
from mlxctl.plan import Stage
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node loads from: its own `folder` with the model's files, or its store, where `key` is the model's. With
    both, the folder has the files that it needs, and the store the manifest that tells of the others.
    """

    folder: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """One node, where it will load from, and what must be brought there first."""

    connection: StageConnection
    place: Place
    missing: Missing
    free_bytes: int
    disk: str


class Distribution:
    """Brings the weights of one model to the nodes of `connections`.

    `places`, `sent_bytes` (from here) and `fetched_bytes` (by the node, from the hub) are by stage. `on_progress` is
    given node, whether that is all, detail and share; it is called from several threads.
    """

    def __init__(self, connections: Sequence[StageConnection], path: Path, name: str, on_progress: OnProgress) -> None:
        self._connections = connections
        self._path = path
        self._name = name
        self._on_progress = on_progress
        self._commit = origin_of(path)
        self._transfers: list[Transfer] = []
        self._cancelled = False
        self.places = [Place()] * len(connections)
        self.sent_bytes = [0] * len(connections)
        self.fetched_bytes = [0] * len(connections)

    def cancel(self) -> None:
        """End what is being moved; nodes keep what they have."""
        self._cancelled = True
        for transfer in list(self._transfers):
            transfer.cancel()

    async def run(self) -> None:
        """Raises StoreFull before anything is moved, CheckpointError, LaunchError."""
        files = await asyncio.to_thread(model_files, self._path)
        replies = await self._ask((connection, files, "") for connection in self._connections)
        self.places = [Place(reply.folder) for reply in replies]
        distant = [c for c, place in zip(self._connections, self.places, strict=True) if not place.folder]
        if not distant:
            return
        weights = await beside_loop(partial(self._open, distant[0].stage.node))
        key = weights.manifest.key
        asked = [(connection, _needed_files(weights, connection.stage, files), key) for connection in distant]
        replies = await self._ask(asked)
        needs = [_need(weights, c, reply) for c, reply in zip(distant, replies, strict=True)]
        check_disks(needs)
        async with FirstError() as group:
            for need in needs:
                self.places[need.connection.stage.index] = need.place
                group.create_task(asyncio.to_thread(self._bring, weights, need))

    async def _ask(
        self, questions: Iterable[tuple[StageConnection, Mapping[str, int], str]]
    ) -> list[shard_pb2.StoreReply]:
        asked = (asyncio.to_thread(c.store, files, key, self._commit) for c, files, key in questions)
        return await asyncio.gather(*asked)

    def _open(self, node: str) -> ModelWeights:
        meter = Meter(lambda detail, share: self._on_progress(node, False, f"hashing the model, {detail}", share))
        return open_weights(self._path, self._name, paths.hashes_dir(), meter.reached)

    def _bring(self, weights: ModelWeights, need: Need) -> None:
        stage, what = need.connection.stage, need.missing
        if not what.pieces:
            self._on_progress(stage.node, True, "has them from before", None)
            return
        meter = Meter(lambda detail, share: self._on_progress(stage.node, False, detail, share))
        transfer = Transfer(need.connection, weights, lambda moved: meter.reached(moved, what.size_bytes))
        self._transfers.append(transfer)
        if self._cancelled:
            return
        own = weights.manifest.own_entry
        transfer.send_one(own.name, own.size_bytes)
        transfer.send({name: size for name, size in what.pieces.items() if name != own.name})
        self.sent_bytes[stage.index] = transfer.sent_bytes
        self.fetched_bytes[stage.index] = transfer.fetched_bytes
        self._on_progress(stage.node, True, _done(transfer, what), 1.0)


def _done(transfer: Transfer, what: Missing) -> str:
    """What was moved, in a line."""
    fetched, sent = transfer.fetched_bytes, transfer.sent_bytes
    line = f"{megabytes(fetched + sent)} in {len(what.pieces)} pieces"
    if not transfer.reaches_hub:
        line += ", from the hub through this machine: the node does not reach it"
    elif fetched:
        line += ", from the hub"
    return line + (f", {megabytes(what.resumed_bytes)} were there" if what.resumed_bytes else "")


def _needed_files(weights: ModelWeights, stage: Stage, files: Mapping[str, int]) -> dict[str, int]:
    """Of the model's `files` (sizes) those that a node cannot do without, if it is to read them where they are."""
    if weights.manifest.origin is None:
        return {}
    names = weights.files([piece.name for piece in weights.manifest.needed(stage.start, stage.stop)])
    return {name: size for name, size in files.items() if name in names or not name.endswith(".safetensors")}


def _need(weights: ModelWeights, connection: StageConnection, reply: shard_pb2.StoreReply) -> Need:
    stage, place = connection.stage, Place(reply.folder, weights.manifest.key)
    what = missing(weights, stage.start, stage.stop, reply.held_bytes)
    if place.folder:
        own = weights.manifest.own_entry
        what = Missing({name: size for name, size in what.pieces.items() if name == own.name}, 0)
    return Need(connection, place, what, reply.free_bytes, reply.disk)


def check_disks(needs: Sequence[Need]) -> None:
    """Raises StoreFull if what the nodes of one disk need together does not fit there; pieces they share count once."""
    for need in needs:
        neighbours = [other for other in needs if other.disk == need.disk]
        pieces = {name: size for other in neighbours for name, size in other.missing.pieces.items()}
        resumed = max(other.missing.resumed_bytes for other in neighbours)
        size_bytes = sum(pieces.values()) - resumed
        if size_bytes > need.free_bytes:
            stage = need.connection.stage
            raise StoreFull(
                f"its weights need {size_bytes} bytes more on a disk with {need.free_bytes} free",
                hint="make room there, or let another node run these layers",
                node=stage.node,
                stage=stage.index,
            )


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
