"""What ranks do for `bench links`: exchange MLX arrays over our wire or mx.distributed, and time it. Run on each rank.

Both transports move the same float32 arrays on the CPU's stream, so that like is compared with like. Called by name
through mlxctl/comm/rank_process.py; results travel as JSON, times in seconds.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Callable
from typing import Any, Protocol

import mlx.core as mx

from mlxctl.comm import Communicator
from mlxctl.errors import CommError
from mlxctl.launch.doctor.agent import ask
from mlxctl.launch.doctor.system import LINUX_PATHS, MAC_COMMANDS, read_system

ITEM_BYTES = 4
ACK_BYTES = 64
WARM_UP, WARM_UP_LARGE = 3, 1
LARGE_BYTES = 4 << 20
BURSTS = 3
BURST_BYTES = 16 << 20
BURST_MESSAGES = 32


class Transport(Protocol):
    """What is timed. `like` is an array of the dtype and shape that is expected."""

    def send(self, x: mx.array, target: int) -> None: ...

    def recv(self, like: mx.array, source: int) -> None: ...

    def collective(self, operation: str, x: mx.array) -> None: ...


class Wire:
    """Our communicator."""

    def __init__(self, comm: Communicator) -> None:
        self._comm = comm

    def send(self, x: mx.array, target: int) -> None:
        self._comm.send(x, target)

    def recv(self, like: mx.array, source: int) -> None:
        self._comm.recv(source)

    def collective(self, operation: str, x: mx.array) -> None:
        comm = self._comm
        calls: dict[str, Callable[[], Any]] = {
            "barrier": comm.barrier,
            "broadcast": lambda: comm.broadcast(x if comm.rank == 0 else None),
            "all_gather": lambda: comm.all_gather(x),
            "all_reduce sum": lambda: mx.eval(comm.all_reduce(x, "sum")),
            "all_reduce mean": lambda: mx.eval(comm.all_reduce(x, "mean")),
            "all_reduce max": lambda: mx.eval(comm.all_reduce(x, "max")),
            "all_reduce min": lambda: mx.eval(comm.all_reduce(x, "min")),
        }
        calls[operation]()


class MlxDistributed:
    """A group of mx.distributed, which has neither broadcast nor barrier nor mean."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def send(self, x: mx.array, target: int) -> None:
        mx.eval(mx.distributed.send(x, target, group=self._group))

    def recv(self, like: mx.array, source: int) -> None:
        mx.eval(mx.distributed.recv_like(like, source, group=self._group))

    def collective(self, operation: str, x: mx.array) -> None:
        calls: dict[str, Callable[..., mx.array]] = {
            "all_gather": mx.distributed.all_gather,
            "all_reduce sum": mx.distributed.all_sum,
            "all_reduce max": mx.distributed.all_max,
            "all_reduce min": mx.distributed.all_min,
        }
        mx.eval(calls[operation](x, group=self._group))


_joined: dict[str, MlxDistributed] = {}


def free_port(comm: Communicator, hosts: list[str]) -> int:
    """A port of this rank's host that was free a moment ago."""
    family = socket.AF_INET6 if ":" in hosts[comm.rank] else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((hosts[comm.rank], 0))
        return int(listener.getsockname()[1])


def medium(comm: Communicator, addresses: list[str]) -> str:
    """What this rank sends through, by the interface that has its address: ethernet, Wi-Fi, Thunderbolt bridge …"""
    system = read_system(ask({"darwin": MAC_COMMANDS}, LINUX_PATHS, tempfile.gettempdir()))
    interface = system.interface_of(addresses[comm.rank]) if system is not None else None
    return interface.medium if interface is not None else "unknown"


def unavailable(comm: Communicator, backend: str) -> str | None:
    """Why this rank cannot have mx.distributed over `backend`; None if nothing is known to be in the way."""
    if not mx.distributed.is_available(backend):
        return f"mlx {_mlx_version()} here has no {backend}"
    if backend == "jaccl" and not os.environ.get("MLX_IBV_DEVICES"):
        return "RDMA over Thunderbolt is not set up: MLX_IBV_DEVICES is not set"
    return None


def join_mlx(comm: Communicator, backend: str, addresses: list[str]) -> int:
    """Have mx.distributed connect this rank to the others; the size of its group. Raises CommError."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([[address] for address in addresses], file)
        file.flush()
        os.environ.update(MLX_RANK=str(comm.rank), MLX_HOSTFILE=file.name)
        try:
            group = mx.distributed.init(strict=True, backend=backend)
        except RuntimeError as error:
            raise CommError(f"mx.distributed does not start: {str(error).strip().splitlines()[0]}") from error
    _joined[backend] = MlxDistributed(group)
    return int(group.size())


def point_to_point(
    comm: Communicator,
    transport: str,
    source: int,
    target: int,
    size_bytes: int,
    round_trips: int,
    burst_messages: int | None = None,
) -> dict[str, list[float]]:
    """Round trips from `source` to `target` and back, then bursts one way; the times, at `source` only.

    A burst is messages one after the other and one small answer to the last: its time a message is what it says.
    """
    comm.barrier()
    if comm.rank not in (source, target):
        return {}
    with mx.stream(mx.cpu):
        link = _transport(comm, transport)
        x, ack = _array(size_bytes), _array(ACK_BYTES)
        warm_up = _warm_up(size_bytes)
        messages = burst_messages or max(2, min(BURST_MESSAGES, BURST_BYTES // size_bytes))
        if comm.rank == target:
            for _ in range(warm_up + round_trips):
                link.recv(x, source)
                link.send(x, source)
            for _ in range(BURSTS):
                for _ in range(messages):
                    link.recv(x, source)
                link.send(ack, source)
            return {}
        trips = [_timed(lambda: _there_and_back(link, x, target)) for _ in range(warm_up + round_trips)]
        bursts = [_timed(lambda: _burst(link, x, ack, target, messages)) / messages for _ in range(BURSTS)]
        return {"rtt_s": trips[warm_up:], "message_s": bursts}


def collective(comm: Communicator, transport: str, operation: str, size_bytes: int, repeats: int) -> list[float]:
    """Times of a collective on this rank, each after a barrier; `size_bytes` is what each rank brings."""
    with mx.stream(mx.cpu):
        link = _transport(comm, transport)
        x = _array(size_bytes)
        times = []
        warm_up = _warm_up(size_bytes)
        for _ in range(warm_up + repeats):
            comm.barrier()
            times.append(_timed(lambda: link.collective(operation, x)))
        return times[warm_up:]


def _warm_up(size_bytes: int) -> int:
    return WARM_UP if size_bytes < LARGE_BYTES else WARM_UP_LARGE


def _there_and_back(link: Transport, x: mx.array, other: int) -> None:
    link.send(x, other)
    link.recv(x, other)


def _burst(link: Transport, x: mx.array, ack: mx.array, other: int, messages: int) -> None:
    for _ in range(messages):
        link.send(x, other)
    link.recv(ack, other)


def _transport(comm: Communicator, name: str) -> Transport:
    return Wire(comm) if name == "grpc" else _joined[name]


def _array(size_bytes: int) -> mx.array:
    x = mx.zeros(max(1, size_bytes // ITEM_BYTES))
    mx.eval(x)
    return x


def _timed(call: Callable[[], None]) -> float:
    began_s = time.perf_counter()
    call()
    return time.perf_counter() - began_s


def _mlx_version() -> str:
    from importlib.metadata import version

    return version("mlx")
