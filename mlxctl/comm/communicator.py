"""The public communicator: ranks that send each other values. Used by `bench links` and users.

Every rank calls the same collectives in the same order, from one thread; `send` and `recv` may come from others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from mlxctl.comm.call import Call
from mlxctl.comm.codec import decode, encode
from mlxctl.comm.mesh import MAX_RANKS, POINT_TO_POINT, Endpoint, Label, Mesh
from mlxctl.comm.reduction import Op, Reduction
from mlxctl.errors import CommError, InvalidRank, UsageError, ValueMismatch
from mlxctl.wire.identity import Identity
from mlxctl.wire.parts import Buffer

TIMEOUT_S = 60.0
DIRECT_BYTES = 64 << 10
"""Up to here everybody sends to everybody at once; what is larger goes round the ring."""

_SMALL, _LARGE = b"\0", b"\1"


class Communicator:
    """One rank of a group. Make it with `connect`; leave with `close` or the end of a `with` block.

    Every call takes `timeout_s` (default: the communicator's) and raises TimedOut when it has passed, RankLost when a
    rank is lost that it needs (a collective needs all), InvalidRank for ranks that do not exist. After a collective
    that failed half way no other one is possible: leave, and connect anew.
    """

    def __init__(self, rank: int, size: int, mesh: Mesh, timeout_s: float) -> None:
        self.rank = rank
        self.size = size
        self._mesh = mesh
        self._timeout_s = timeout_s
        self._number = 0
        self._failed: str | None = None

    @classmethod
    def connect(
        cls,
        rank: int,
        addresses: Sequence[str],
        identity: Identity,
        *,
        group: str = "comm",
        endpoint: Endpoint | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Self:
        """Join the group as `rank`; return once all are there.

        `addresses` ("host:port") are those of all ranks, in order, the same on every rank; this one listens on its own
        unless it brings an `endpoint` that does. `identity` must be certified as `rank_name(group, rank)` by the
        authority of the others. Raises InvalidRank, PortTaken, TimedOut, RankLost, UsageError.
        """
        size = len(addresses)
        if not 0 < size <= MAX_RANKS:
            raise UsageError(f"a group of {size} ranks: from 1 to {MAX_RANKS} are possible")
        if not 0 <= rank < size:
            raise InvalidRank(f"rank {rank} is not in a group of {size}")
        host, _, port = addresses[rank].rpartition(":")
        own = endpoint or Endpoint(identity, host.strip("[]"), int(port))
        mesh = Mesh(rank, addresses, identity, group, own, time.monotonic() + timeout_s)
        return cls(rank, size, mesh, timeout_s)

    def close(self) -> None:
        """Leave: what was sent still arrives, within seconds; the others see that this rank has left."""
        self._mesh.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, value: Any, target: int, *, timeout_s: float | None = None) -> None:
        """Send `value` to `target`, which gets it from `recv`; returns as soon as it is on its way.

        Sendable are None, bool, int, float, str, bytes, list, tuple, dict, NumPy and MLX arrays, up to 1 GiB. Raises
        UsageError for others, FrameTooLarge.
        """
        self._check(target)
        self._mesh.send(target, Label(POINT_TO_POINT), encode(value), self._deadline_s(timeout_s))

    def recv(self, source: int, *, timeout_s: float | None = None) -> Any:
        """The next value that `source` has sent to this rank. After a TimedOut it can be asked for again."""
        self._check(source)
        _, data = self._mesh.take(source, False, self._deadline_s(timeout_s))
        return decode(data)

    def barrier(self, *, timeout_s: float | None = None) -> None:
        """Return once every rank has called it."""
        with self._collective("barrier", timeout_s) as call:
            call.swap(0, [])

    def broadcast(self, value: Any, root: int = 0, *, timeout_s: float | None = None) -> Any:
        """The `value` of `root` on every rank (those of the others are ignored). Each rank that has it passes it on."""
        self._check(root, itself=True)
        data = encode(value) if self.rank == root else []
        with self._collective("broadcast", timeout_s) as call:
            return self._pass_on(call, value, data, root)

    def all_gather(self, value: Any, *, timeout_s: float | None = None) -> list[Any]:
        """The values of all ranks in their order; they may differ in type and size."""
        data = encode(value)
        is_large = sum(map(len, data)) > DIRECT_BYTES
        with self._collective("all_gather", timeout_s) as call:
            first = call.swap(0, [_LARGE] if is_large else [_SMALL, *data])
            found: dict[int, list[Buffer]] = {other: [frame[1:]] for other, frame in first.items()}
            found[self.rank] = data
            large = {other for other, frame in first.items() if frame[0] == _LARGE[0]} | (
                {self.rank} if is_large else set()
            )
            call.ring(found, large, first_step=1)
        return [value if rank == self.rank else decode(found[rank][0]) for rank in range(self.size)]

    def all_reduce(self, value: Any, op: Op = "sum", *, timeout_s: float | None = None) -> Any:
        """Element-wise `op` over the values of all ranks: numbers, NumPy or MLX arrays of one dtype and shape.

        The result has that dtype and shape and the same bits on every rank. Sums of 16-bit floats are made in float32
        (and rounded once a hop in arrays over 64 KiB). Raises ValueMismatch on every rank if the values do not fit,
        UsageError for operations without a meaning, such as the mean of integers.
        """
        mine = Reduction(value, op)
        is_small = mine.size_bytes <= DIRECT_BYTES
        data = mine.data() if is_small else None
        with self._collective("all_reduce", timeout_s) as call:
            announced = encode([mine.signature, bytes(data) if data is not None else None])
            theirs = {rank: decode(frame) for rank, frame in call.swap(0, announced).items()}
            for rank, (signature, _) in theirs.items():
                if signature != mine.signature:
                    here, there = _words(mine.signature), _words(signature)
                    raise ValueMismatch(f"rank {rank} brings {there} to all_reduce, rank {self.rank} {here}")
            if data is not None:
                return mine.of_all([data if rank == self.rank else theirs[rank][1] for rank in range(self.size)])
            return self._reduce_in_ring(call, mine)

    def _reduce_in_ring(self, call: Call, mine: Reduction) -> Any:
        """Each piece goes once round to be summed, and once more to be told; rank r ends with piece r + 1."""
        pieces = mine.cut(self.size)
        for step in range(self.size - 1):
            outgoing, incoming = (self.rank - step) % self.size, (self.rank - step - 1) % self.size
            received = call.shift(1 + step, [mine.piece_data(pieces[outgoing])])
            pieces[incoming] = mine.combine(pieces[incoming], received)
        found: dict[int, list[Buffer]] = {self.rank: [mine.piece_data(pieces[(self.rank + 1) % self.size])]}
        call.ring(found, set(range(self.size)), first_step=self.size)
        return mine.join([found[(index - 1) % self.size][0] for index in range(self.size)], self.size)

    def _pass_on(self, call: Call, value: Any, data: list[Buffer], root: int) -> Any:
        """A binomial tree: in each round every rank that has the value sends it to one that has not."""
        place = (self.rank - root) % self.size
        rounds = (self.size - 1).bit_length()
        reached = place.bit_length()  # the round after which this rank has it
        if place:
            source = place - (1 << (reached - 1))
            data = [call.take((source + root) % self.size, 0)]
        for each in range(reached, rounds):
            target = place + (1 << each)
            if target < self.size:
                call.send((target + root) % self.size, 0, data)
        return decode(data[0]) if place else value

    @contextmanager
    def _collective(self, name: str, timeout_s: float | None) -> Iterator[Call]:
        if self._failed is not None:
            raise CommError(f"no {name} after a failed {self._failed}", hint="close the communicator, connect anew")
        self._number += 1
        try:
            yield Call(self._mesh, self.rank, self.size, name, self._number, self._deadline_s(timeout_s))
        except ValueMismatch:  # every rank has read everything
            raise
        except BaseException:
            self._failed = name
            raise

    def _deadline_s(self, timeout_s: float | None) -> float:
        return time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)

    def _check(self, rank: int, itself: bool = False) -> None:
        if type(rank) is not int or not 0 <= rank < self.size:
            raise InvalidRank(f"there is no rank {rank!r} in a group of {self.size}")
        if rank == self.rank and not itself:
            raise InvalidRank(f"rank {rank} is this rank itself")


def _words(signature: tuple[str, str, tuple[int, ...]]) -> str:
    kind, op, shape = signature
    return f"{kind} of shape {tuple(shape)} ({op})"
