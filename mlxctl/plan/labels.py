"""Partial splits and which of them are worth keeping. Called by search alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Cost = tuple[int, int]
"""What labels are compared by, first number first."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One stage: node (by number) and positions [start, stop)."""

    node: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """Stages from the model's start on: their cost and the bytes they take of each shared pool."""

    cost: Cost
    taken: tuple[int, ...]
    stage: Placement | None = None
    before: Label | None = None

    def followed_by(self, stage: Placement, weight: Cost, pool: int | None, size_bytes: int) -> Label:
        """This label and one more stage, which takes `size_bytes` of shared pool number `pool`, if that is one."""
        taken = tuple(was + size_bytes if index == pool else was for index, was in enumerate(self.taken))
        return Label((self.cost[0] + weight[0], self.cost[1] + weight[1]), taken, stage, self)

    def beats(self, other: Label) -> bool:
        """Whether nothing that may follow `other` could be better than after this label."""
        return self.cost <= other.cost and all(a <= b for a, b in zip(self.taken, other.taken, strict=True))

    def stages(self) -> tuple[Placement, ...]:
        """All stages, first to last."""
        return (*self.before.stages(), self.stage) if self.before and self.stage else ()


class Front:
    """The labels worth keeping, by the set of nodes they use and the position they reach."""

    def __init__(self) -> None:
        self.labels: dict[tuple[int, int], list[Label]] = {}

    def add(self, nodes: int, position: int, label: Label) -> bool:
        """Keep `label` unless one kept already beats it; drop those that it beats. Whether it was kept."""
        kept = self.labels.setdefault((nodes, position), [])
        if any(other.beats(label) for other in kept):
            return False
        kept[:] = [other for other in kept if not label.beats(other)]
        kept.append(label)
        return True


def fits(label: Label, shared_bytes: Sequence[int]) -> bool:
    """Whether what `label` takes is there."""
    return all(taken <= size for taken, size in zip(label.taken, shared_bytes, strict=True))
