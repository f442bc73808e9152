"""What ranks do in tests of the communicator: each function runs on every rank, its result travels as JSON."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from mlxctl.comm import Communicator
from mlxctl.errors import MlxctlError
from mlxctl.sharding.arrays import DTYPES, array_bytes

PLAIN: list[Any] = [None, True, 1 << 80, -1.5, "ü", b"\0", [1, [2]], (1, ()), {"a": {1: 2}, (1, 2): None}]
LARGE_BYTES = 150 << 20


def round_trip(comm: Communicator) -> list[str]:
    """Every plain value from each rank to the next; what came, as text."""
    comm.send(PLAIN, (comm.rank + 1) % comm.size)
    return [repr(value) for value in comm.recv((comm.rank - 1) % comm.size)]


def numpy_arrays(comm: Communicator, dtype: str, shape: list[int]) -> bool:
    """Whether rank 0's array arrives bit for bit, through broadcast and send."""
    x = np.asarray(np.arange(np.prod(shape)).reshape(shape) % 100).astype(dtype)
    told = comm.broadcast(x if comm.rank == 0 else None)
    return bool(told.dtype == x.dtype and told.shape == x.shape and told.tobytes() == x.tobytes())


def mlx_arrays(comm: Communicator, dtype: str, shape: list[int]) -> bool:
    with mx.stream(mx.cpu):
        x = (mx.arange(int(np.prod(shape))) % 2).reshape(shape).astype(DTYPES[dtype])
        found = comm.all_gather(x)
        same = [each.dtype == x.dtype and array_bytes(each) == array_bytes(x) for each in found]
        return all(same) and all(each.shape == x.shape for each in found)


def broadcast_from(comm: Communicator, root: int) -> Any:
    return comm.broadcast({"from": comm.rank}, root)


def gather(comm: Communicator, sizes: list[int]) -> list[str]:
    """Each rank brings a text of its own length; lengths and letters that came."""
    found = comm.all_gather(chr(ord("a") + comm.rank) * sizes[comm.rank])
    return [f"{len(text)}{text[:1]}" for text in found]


def reduce_numpy(comm: Communicator, op: Any, dtype: str, count: int) -> dict[str, Any]:
    """The result's hash, and its largest distance from what one process computes."""
    all_values = [_values(rank, count) for rank in range(comm.size)]
    combine: Any = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}[op]
    wanted = combine(np.stack([x.astype(dtype).astype(np.float64) for x in all_values]), axis=0)
    found = comm.all_reduce(all_values[comm.rank].astype(dtype), op)
    return _verdict(found.dtype.name == dtype and found.shape == (count,), found, wanted)


def reduce_mlx(comm: Communicator, op: Any, dtype: str, count: int) -> dict[str, Any]:
    with mx.stream(mx.cpu):
        all_values = [mx.array(_values(rank, count)).astype(DTYPES[dtype]) for rank in range(comm.size)]
        combine: Any = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min}[op]
        wanted = combine(np.stack([np.array(x.astype(mx.float32)) for x in all_values]), axis=0)
        found = comm.all_reduce(all_values[comm.rank], op)
        right = found.dtype == DTYPES[dtype] and found.shape == (count,)
        return _verdict(right, np.array(found.astype(mx.float32)), wanted)


def _values(rank: int, count: int) -> Any:
    return np.random.default_rng(rank).integers(-40, 40, count).astype(np.float32)


def _verdict(right: bool, found: Any, wanted: Any) -> dict[str, Any]:
    distance = float(np.max(np.abs(found.astype(np.float64) - wanted), initial=0.0))
    return {"right": right, "distance": distance, "hash": hashlib.sha256(found.tobytes()).hexdigest()}


def reduce_numbers(comm: Communicator) -> list[Any]:
    ops: tuple[Any, ...] = ("sum", "max", "min", "mean")
    zero_d = comm.all_reduce(np.array(comm.rank))
    return [comm.all_reduce(comm.rank + 1, op) for op in ops] + [
        comm.all_reduce(0.5),
        type(zero_d).__name__,
        zero_d.shape,
    ]


def empty_arrays(comm: Communicator) -> list[Any]:
    return [comm.all_reduce(np.zeros((0, 3), np.float32)).shape, comm.all_reduce(mx.zeros((2, 0)), "max").shape]


def arrive_late(comm: Communicator, late: int, marker: str) -> bool:
    """Whether everybody leaves the barrier only after rank `late` has come to it."""
    if comm.rank == late:
        time.sleep(0.3)
        with open(marker, "w"):
            pass
    comm.barrier()
    return os.path.exists(marker)


def large(comm: Communicator) -> str:
    """150 MiB from rank 0 to rank 1, and what arrived."""
    if comm.rank == 0:
        comm.send(_large(), 1)
    return hashlib.sha256(comm.recv(0)).hexdigest() if comm.rank == 1 else hashlib.sha256(_large()).hexdigest()


def _large() -> Any:
    return np.arange(LARGE_BYTES // 8, dtype=np.int64)


def large_sum(comm: Communicator) -> bool:
    x = np.full(LARGE_BYTES // 4, comm.rank + 1, np.float32)
    return bool(np.all(comm.all_reduce(x) == sum(range(1, comm.size + 1))))


def many(comm: Communicator, count: int) -> bool:
    """Whether messages arrive in order, collectives in between."""
    following, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    for number in range(count):
        comm.send(number, following)
        if number % 10 == 0:
            comm.barrier()
    return [comm.recv(before) for _ in range(count)] == list(range(count))


def fault(call: Callable[[], Any]) -> str:
    """The name and message of the error of ours that `call` raises."""
    try:
        call()
    except MlxctlError as error:
        return f"{type(error).__name__}: {error.message}"
    return "no error"


def invalid_ranks(comm: Communicator) -> list[str]:
    calls: list[Callable[[], Any]] = [
        lambda: comm.send(1, comm.size),
        lambda: comm.send(1, comm.rank),
        lambda: comm.recv(-1),
        lambda: comm.broadcast(1, root=99),
        lambda: comm.recv(True),
    ]
    return [fault(call).partition(":")[0] for call in calls]


def receive_in_vain(comm: Communicator) -> list[Any]:
    """A receive that times out, and one after it that does not."""
    other = (comm.rank + 1) % comm.size
    told = fault(lambda: comm.recv(other, timeout_s=0.1))
    comm.barrier()
    comm.send("at last", (comm.rank - 1) % comm.size)
    return [told, comm.recv(other)]


def mismatched(comm: Communicator) -> list[Any]:
    """Values that do not fit, and a sum after that."""
    told = [
        fault(lambda: comm.all_reduce(np.zeros(comm.rank + 1))),
        fault(lambda: comm.all_reduce(np.zeros(1 << (10 + 10 * comm.rank), np.float32))),
        fault(lambda: comm.all_reduce(np.zeros(3, np.float32 if comm.rank else np.int32))),
        fault(lambda: comm.all_reduce(1, "sum" if comm.rank else "max")),
    ]
    return [*told, comm.all_reduce(1)]


def meaningless(comm: Communicator) -> list[str]:
    calls: list[Callable[[], Any]] = [
        lambda: comm.send({1, 2}, (comm.rank + 1) % comm.size),
        lambda: comm.all_reduce(np.zeros(3, np.int32), "mean"),
        lambda: comm.all_reduce(np.zeros(3), "product"),  # type: ignore[arg-type]
        lambda: comm.all_reduce("text"),
    ]
    return [fault(call).partition(":")[0] for call in calls]


def different_calls(comm: Communicator) -> list[str]:
    first = fault(comm.barrier if comm.rank == 0 else lambda: comm.all_reduce(1, timeout_s=5))
    return [first, fault(comm.barrier)]


def lose_a_rank(comm: Communicator, victim: int, collective: bool) -> str:
    """What the others are told when `victim` is killed while they wait."""
    comm.barrier()
    if comm.rank == victim:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    waiting = (lambda: comm.all_reduce(np.zeros(1 << 20))) if collective else (lambda: comm.recv(victim))
    return fault(waiting)


def stop_reading(comm: Communicator) -> str:
    """Rank 0 sends more than rank 1 will ever take."""
    told = "no error"
    if comm.rank == 0:
        block = bytes(100 << 20)
        for _ in range(5):
            told = fault(lambda: comm.send(block, 1, timeout_s=2))
            if told != "no error":
                break
    return told


def say_nothing(comm: Communicator) -> None:
    time.sleep(600)
