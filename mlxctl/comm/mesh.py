"""A connection from every rank to every other, over gRPC with mutual TLS. Called by the communicator.

Each rank listens once and dials all others; a stream carries the parts of one direction. A rank that leaves says so in
its last frame: a stream that ends without means that its rank is lost, which gRPC tells within milliseconds of its
death, now and then as a stream that ended in good order.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import grpc

from mlxctl.comm.boxes import Inbox, Outbox
from mlxctl.errors import CorruptFrame, MlxctlError, PortTaken, TimedOut
from mlxctl.wire.identity import Identity, peer_name
from mlxctl.wire.parts import Assembler, Buffer, split
from mlxctl.wire.service import OPTIONS, abort, channel, rank_name

SERVICE = "mlxctl.v1.Comm"
METHOD = "Exchange"
MAX_RANKS = 64
EPOCH = 0
LEAVE_S = 5.0  # for the others to read what was sent before this rank leaves

# what the frame belongs to (0: point-to-point), the step of a collective, its number
_HEADER = struct.Struct("<BxHI")
POINT_TO_POINT = 0
FAREWELL = 255


@dataclass(frozen=True, slots=True)
class Label:
    """Which call a frame belongs to."""

    operation: int
    step: int = 0
    number: int = 0


class Endpoint:
    """A port of this process that a rank will listen on. Raises PortTaken."""

    def __init__(self, identity: Identity, host: str, port: int = 0) -> None:
        self._pool = ThreadPoolExecutor(MAX_RANKS + 2, thread_name_prefix="comm")
        self.server = grpc.server(self._pool, options=OPTIONS)
        place = f"[{host}]" if ":" in host else host
        try:
            self.port = int(self.server.add_secure_port(f"{place}:{port}", identity.server_credentials()))
        except RuntimeError as error:
            self.close(0.0)
            raise PortTaken(f"cannot listen on {place}:{port}") from error
        self.address = f"{place}:{self.port}"

    def close(self, grace_s: float) -> None:
        self.server.stop(grace_s).wait()
        self._pool.shutdown()


class Mesh:
    """The connections of `rank`; `addresses` are those of all ranks, in order."""

    def __init__(
        self, rank: int, addresses: Sequence[str], identity: Identity, group: str, endpoint: Endpoint, deadline_s: float
    ) -> None:
        self.others = tuple(other for other in range(len(addresses)) if other != rank)
        self._names = {rank_name(group, other): other for other in self.others}
        self.inbox = Inbox(self.others)
        self._endpoint = endpoint
        self._frame_ids = count()
        self._outboxes = {other: Outbox() for other in self.others}
        self._locks = {other: threading.Lock() for other in self.others}
        self._channels: dict[int, grpc.Channel] = {}
        self._calls: list[Any] = []
        handlers = {METHOD: grpc.stream_unary_rpc_method_handler(self._receive)}
        endpoint.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        endpoint.server.start()
        try:
            for other in self.others:
                self._channels[other] = channel(addresses[other], rank_name(group, other), identity)
            for other in self.others:
                self._dial(other, addresses[other], deadline_s)
            self.inbox.wait_for_all(deadline_s)
        except BaseException:
            self.close()
            raise

    def send(self, target: int, label: Label, buffers: Iterable[Buffer], deadline_s: float) -> None:
        """Hand a frame to the connection to `target`; buffers may be reused afterwards. Raises TimedOut, RankLost.

        After a time-out half of a frame may have gone out: the connection is of no use any more and is ended.
        """
        self.inbox.require(target)
        header = _HEADER.pack(label.operation, label.step, label.number)
        parts = split([header, *buffers], epoch=EPOCH, frame_id=next(self._frame_ids))
        with self._turn(target, deadline_s):
            try:
                self._outboxes[target].put(parts, deadline_s, lambda: self.inbox.require(target))
            except TimedOut as error:
                self.inbox.lose(target, "it did not take what was sent to it")
                self._outboxes[target].close()
                raise TimedOut(f"rank {target} does not take what is sent to it") from error

    @contextmanager
    def _turn(self, target: int, deadline_s: float) -> Iterator[None]:
        """One frame after the other. Raises TimedOut."""
        if not self._locks[target].acquire(timeout=max(0.0, deadline_s - time.monotonic())):
            raise TimedOut(f"rank {target} does not take what is sent to it")
        try:
            yield
        finally:
            self._locks[target].release()

    def take(self, source: int, collective: bool, deadline_s: float) -> tuple[Label, memoryview]:
        """The next frame of `source`. Raises TimedOut, RankLost."""
        frame = self.inbox.take(source, collective, deadline_s)
        return Label(*_HEADER.unpack_from(frame)), frame[_HEADER.size :]

    def close(self) -> None:
        """Let the others read what was sent, then end all connections."""
        for outbox in self._outboxes.values():
            outbox.close(split([_HEADER.pack(FAREWELL, 0, 0)], epoch=EPOCH, frame_id=next(self._frame_ids)))
        until_s = time.monotonic() + LEAVE_S
        for call in self._calls:
            try:
                call.result(max(0.0, until_s - time.monotonic()))
            except (grpc.RpcError, grpc.FutureTimeoutError, grpc.FutureCancelledError):
                call.cancel()
        self.inbox.close()
        for each in self._channels.values():
            each.close()
        self._endpoint.close(grace_s=0.0)

    def _dial(self, other: int, address: str, deadline_s: float) -> None:
        link = self._channels[other]
        ready = grpc.channel_ready_future(link)
        try:
            ready.result(max(0.0, deadline_s - time.monotonic()))
        except grpc.FutureTimeoutError:
            ready.cancel()
            raise TimedOut(f"rank {other} at {address} does not answer") from None
        call = link.stream_unary(f"/{SERVICE}/{METHOD}").future(self._outboxes[other])
        call.add_done_callback(lambda done: self._broken(other, done))
        self._calls.append(call)

    def _broken(self, other: int, call: Any) -> None:
        if call.code() is not grpc.StatusCode.OK:
            self.inbox.lose(other, call.details() or "its connection broke")
        self._outboxes[other].close()

    def _receive(self, parts: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """The parts of one rank, to their end."""
        name = peer_name(context)
        source = self._names.get(name)
        if source is None:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{name or 'nobody'} is no other rank of this group")
            raise AssertionError("unreachable")
        if not self.inbox.join(source):
            context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{name} is connected already")
        try:
            self._read(source, parts)
        except MlxctlError as error:
            self.inbox.lose(source, error.line)
            abort(context, error)
        except grpc.RpcError:
            self.inbox.lose(source, "its connection broke")
        return b""

    def _read(self, source: int, parts: Iterator[bytes]) -> None:
        """Keep what comes until `source` says farewell. Raises CorruptFrame, grpc.RpcError."""
        assembler = Assembler(EPOCH)
        for part in parts:
            frame = assembler.add(part)
            if frame is None:
                continue
            if len(frame) < _HEADER.size:
                raise CorruptFrame(f"a frame of {len(frame)} bytes")
            if frame[0] == FAREWELL:
                self.inbox.leave(source)
                continue
            self.inbox.put(source, frame[0] != POINT_TO_POINT, frame)
        self.inbox.lose(source, "its connection ended")
