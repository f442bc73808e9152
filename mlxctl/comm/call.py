"""One collective call as one rank sees it: who sends what to whom, step by step. Used by the communicator."""

from __future__ import annotations

from collections.abc import Sequence

from mlxctl.comm.mesh import Label, Mesh
from mlxctl.errors import CommError
from mlxctl.wire.parts import Buffer

OPERATIONS = ("send", "barrier", "broadcast", "all_gather", "all_reduce")


class Call:
    """One collective call of one rank: its frames, told from those of other calls by number and step."""

    def __init__(self, mesh: Mesh, rank: int, size: int, name: str, number: int, deadline_s: float) -> None:
        self._mesh = mesh
        self._rank = rank
        self._size = size
        self._operation = OPERATIONS.index(name)
        self._number = number
        self._deadline_s = deadline_s

    def send(self, target: int, step: int, data: Sequence[Buffer]) -> None:
        self._mesh.send(target, Label(self._operation, step, self._number), data, self._deadline_s)

    def take(self, source: int, step: int) -> memoryview:
        """Raises CommError if `source` has called something else."""
        label, data = self._mesh.take(source, True, self._deadline_s)
        if label != Label(self._operation, step, self._number):
            there = OPERATIONS[label.operation] if label.operation < len(OPERATIONS) else "an unknown call"
            raise CommError(
                f"rank {source} is in {there}, its collective {label.number}, "
                f"rank {self._rank} in {OPERATIONS[self._operation]}, its collective {self._number}",
                hint="every rank must call the same collectives in the same order",
            )
        return data

    def swap(self, step: int, data: Sequence[Buffer]) -> dict[int, memoryview]:
        """Send `data` to all others; what each of them has sent, by rank."""
        for ahead in range(1, self._size):
            self.send((self._rank + ahead) % self._size, step, data)
        return {other: self.take(other, step) for other in self._mesh.others}

    def shift(self, step: int, data: Sequence[Buffer]) -> memoryview:
        """Send to the next rank, take from the one before."""
        self.send((self._rank + 1) % self._size, step, data)
        return self.take((self._rank - 1) % self._size, step)

    def ring(self, found: dict[int, list[Buffer]], travelling: set[int], first_step: int) -> None:
        """Pass the data of the ranks in `travelling` round until `found` holds it all."""
        following, before = (self._rank + 1) % self._size, (self._rank - 1) % self._size
        for step in range(self._size - 1):
            outgoing, incoming = (self._rank - step) % self._size, (self._rank - step - 1) % self._size
            if outgoing in travelling:
                self.send(following, first_step + step, found[outgoing])
            if incoming in travelling:
                found[incoming] = [self.take(before, first_step + step)]
