"""Which partial splits cannot be completed, told without trying. Called by search to leave them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxctl.plan.labels import Label


@dataclass(frozen=True, slots=True)
class Bounds:
    """All by the set of nodes still free: how far left of the end they reach together at best (`leftmost`), the bytes
    they can hold on memory of their own (`own_room`) and of each shared pool at most (`shared_room`).

    `bytes_to_go` is what the model needs from each position to its end.
    """

    leftmost: Sequence[int]
    own_room: Sequence[int]
    shared_room: Sequence[Sequence[int]]
    shared_bytes: Sequence[int]
    bytes_to_go: Sequence[int]

    def exclude(self, free: int, position: int, label: Label) -> bool:
        """Whether the nodes of the set `free` can certainly not take what follows `position` after `label`."""
        if self.leftmost[free] > position:
            return True
        room = self.own_room[free]
        for most, size, taken in zip(self.shared_room[free], self.shared_bytes, label.taken, strict=True):
            room += min(most, size - taken)
        return room < self.bytes_to_go[position]
