"""Exact search for the best split: which nodes, in which order, cut where. Pure integers; called by the planner.

Positions 0 … K are the places where the model may be cut (0 its start, K its end). A stage is (node, start, stop).
Labels (cost so far, memory taken on shared pools) are extended stage by stage over sets of nodes; a label that another
one beats in every respect is dropped, so the result is the optimum that trying everything would find.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

StageCost = Callable[[int, int, int], tuple[int, int]]
"""(node, start, stop) -> (nanoseconds, bytes); both grow with the stage."""

Objective = Literal["throughput", "latency"]
_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node as the search sees it: the memory pool it draws from, and how far a stage on it must reach if pinned.

    Candidates of equal `kind` are interchangeable: only their given order is tried. `lengths` maps a start to the one
    stop that a pin allows there; None is no pin.
    """

    pool: int
    kind: Hashable
    pin: dict[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """One stage of the result, in positions."""

    node: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Label:
    cost: tuple[int, int]
    taken: tuple[int, ...]
    stage: Placement | None
    before: _Label | None

    def beats(self, other: _Label) -> bool:
        return self.cost <= other.cost and all(a <= b for a, b in zip(self.taken, other.taken, strict=True))

    def stages(self) -> tuple[Placement, ...]:
        return (*self.before.stages(), self.stage) if self.before and self.stage else ()


class Search:
    """All splits of positions 0 … `ends` over `nodes`, whose stages cost `cost` and share `pools` bytes."""

    def __init__(self, ends: int, nodes: Sequence[Candidate], pools: Sequence[int], cost: StageCost) -> None:
        self.ends = ends
        self.nodes = nodes
        self.pools = pools
        self.table = [[[cost(n, a, b) for b in range(ends + 1)] for a in range(ends)] for n in range(len(nodes))]
        members = [sum(node.pool == pool for node in nodes) for pool in range(len(pools))]
        self.shared = tuple(pool for pool, count in enumerate(members) if count > 1)
        self.pinned = sum(1 << n for n, node in enumerate(nodes) if node.pin is not None)
        self.twins = [self._earlier_twins(n) for n in range(len(nodes))]

    def best(self, objective: Objective) -> tuple[Placement, ...] | None:
        """The best split, or None if there is none.

        throughput: as many nodes as can be used, then the shortest slowest stage, then the smallest sum, then the most
        even. latency: the smallest sum, then the fewest nodes. Ties go to the order in which the nodes were given.
        """
        if objective == "latency":
            found = [self._cheapest(count, _NO_LIMIT, even=False) for count in self._counts()]
            labels = [label for label in found if label is not None]
            return min(labels, key=lambda label: label.cost[0]).stages() if labels else None
        for count in reversed(self._counts()):
            if (label := self._shortest_bottleneck(count)) is not None:
                return label.stages()
        return None

    def is_possible(self) -> bool:
        """Whether there is any split at all."""
        return any(self._cheapest(count, _NO_LIMIT, even=False) is not None for count in self._counts())

    def _counts(self) -> range:
        return range(max(1, self.pinned.bit_count()), min(len(self.nodes), self.ends) + 1)

    def _shortest_bottleneck(self, count: int) -> _Label | None:
        """The best label whose slowest stage is as short as can be."""
        times = sorted({time for rows in self.table for row in rows for time, _ in row})
        low = bisect_left(times, True, key=lambda limit: self._leftmost(limit)[-1] == 0)
        if low == len(times):
            return None
        if (label := self._cheapest(count, times[low])) is not None:
            return label
        if self._cheapest(count, _NO_LIMIT) is None:
            return None
        low = bisect_left(times, True, lo=low + 1, key=lambda limit: self._cheapest(count, limit) is not None)
        return self._cheapest(count, times[low])

    def _cheapest(self, count: int, limit: int, even: bool = True) -> _Label | None:
        """The label of smallest sum (then most even, if asked) over exactly `count` nodes, no stage above `limit`."""
        leftmost = self._leftmost(limit)
        everyone = (1 << len(self.nodes)) - 1
        front: dict[tuple[int, int], list[_Label]] = {(0, 0): [_Label((0, 0), (0,) * len(self.shared), None, None)]}
        for used in range(1, count + 1):
            following: dict[tuple[int, int], list[_Label]] = {}
            for (mask, start), labels in front.items():
                for stage in self._stages_from(mask, start, limit, self.ends - (count - used), used == count):
                    after = mask | 1 << stage.node
                    if leftmost[everyone & ~after] <= stage.stop:
                        self._extend(following.setdefault((after, stage.stop), []), labels, stage, even)
            front = following
        ends = [label for (mask, _), labels in front.items() if not self.pinned & ~mask for label in labels]
        return min(ends, key=lambda label: label.cost, default=None)

    def _stages_from(self, mask: int, start: int, limit: int, furthest: int, last: bool) -> Iterator[Placement]:
        """Every stage that may follow at `start`, on a node not in `mask`."""
        for n, node in enumerate(self.nodes):
            if mask >> n & 1 or self.twins[n] & ~mask:
                continue
            row = self.table[n][start]
            for stop in range(self.ends if last else start + 1, furthest + 1):
                time, size = row[stop]
                if time > limit or size > self.pools[node.pool]:
                    break
                if node.pin is None or node.pin.get(start) == stop:
                    yield Placement(n, start, stop)

    def _extend(self, kept: list[_Label], labels: Sequence[_Label], stage: Placement, even: bool) -> None:
        """Add `stage` to each of `labels`; keep in `kept` only what nothing else beats."""
        time, size = self.table[stage.node][stage.start][stage.stop]
        pool = self.nodes[stage.node].pool
        for label in labels:
            taken = tuple(
                was + size if shared == pool else was for shared, was in zip(self.shared, label.taken, strict=True)
            )
            if any(was > self.pools[shared] for shared, was in zip(self.shared, taken, strict=True)):
                continue
            cost = (label.cost[0] + time, label.cost[1] + time * time if even else 0)
            new = _Label(cost, taken, stage, label)
            if not any(old.beats(new) for old in kept):
                kept[:] = [old for old in kept if not new.beats(old)]
                kept.append(new)

    def _leftmost(self, limit: int) -> list[int]:
        """For each set of nodes, how far left of the end they reach together at best: a bound that ignores sharing."""
        reach = [self.ends] * (1 << len(self.nodes))
        for mask in range(1, len(reach)):
            members = [n for n in range(len(self.nodes)) if mask >> n & 1]
            reach[mask] = min(self._furthest_start(n, reach[mask & ~(1 << n)], limit) for n in members)
        return reach

    def _furthest_start(self, n: int, stop: int, limit: int) -> int:
        """The smallest start of a stage on node `n` that ends at `stop` (a pin is taken as its longest stage)."""
        node = self.nodes[n]
        if node.pin is not None:
            return min((start for start, end in node.pin.items() if end >= stop), default=stop)
        budget = self.pools[node.pool]
        table = self.table[n]
        low, high = 0, stop
        while low < high:
            middle = (low + high) // 2
            time, size = table[middle][stop]
            low, high = (low, middle) if time <= limit and size <= budget else (middle + 1, high)
        return low

    def _earlier_twins(self, n: int) -> int:
        """The interchangeable nodes given before `n`: they are used first."""
        return sum(1 << m for m in range(n) if self.nodes[m].kind == self.nodes[n].kind)
