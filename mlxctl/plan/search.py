"""Exact search for the best split: which nodes, in which order, cut where. Pure integers; called by the planner.

Positions 0 … K are the places where the model may be cut (0 its start, K its end). A stage is (node, start, stop).
Labels (cost so far, memory taken on shared pools) are extended stage by stage over sets of nodes; a label that another
one beats in every respect is dropped, so the result is the optimum that trying everything would find.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count as counter

import numpy as np

from mlxctl.plan.bounds import Bounds
from mlxctl.plan.labels import Cost, Front, Label, Placement, fits
from mlxctl.plan.least_sum import NEVER, Times, least_to_go
from mlxctl.plan.stages import Objective

StageCost = Callable[[int, int, int], tuple[int, int]]
"""(node, start, stop) -> (nanoseconds, bytes); both grow with the stage, both are 0 for an empty one, and the bytes of
two stages are no less than those of both in one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node as the search sees it: the memory pool it draws from, and the stages that a pin leaves it.

    Candidates of equal `kind` are interchangeable: only their given order is tried. `pin` maps a start to the one stop
    allowed there; None is no pin, and a pinned node must be used.
    """

    pool: int
    kind: Hashable
    pin: dict[int, int] | None = None


class Search:
    """All splits of positions 0 … `ends` over `nodes`, whose stages cost `cost` and share `pools` bytes."""

    def __init__(self, ends: int, nodes: Sequence[Candidate], pools: Sequence[int], cost: StageCost) -> None:
        self.ends = ends
        self.nodes = nodes
        self._budgets = [pools[node.pool] for node in nodes]
        self._table = [[[cost(n, a, b) for b in range(ends + 1)] for a in range(ends)] for n in range(len(nodes))]
        shared = [pool for pool in range(len(pools)) if sum(node.pool == pool for node in nodes) > 1]
        self._shared_bytes = [pools[pool] for pool in shared]
        self._shared_pool = [shared.index(node.pool) if node.pool in shared else None for node in nodes]
        self._pinned = sum(1 << n for n, node in enumerate(nodes) if node.pin is not None)
        self._earlier_twins = [self._twins_before(n) for n in range(len(nodes))]
        self._everyone = (1 << len(nodes)) - 1
        least = [min(rows[start][ends][1] for rows in self._table) for start in range(ends)]
        self._bytes_to_go = [*least, 0]

    def best(self, objective: Objective) -> tuple[Placement, ...] | None:
        """The best split, or None if there is none.

        throughput: as many nodes as can be used, then the shortest slowest stage, then the smallest sum, then the most
        even. latency: the smallest sum, then the fewest nodes; of unpinned nodes that share a pool only the first is
        tried, as a second one adds a hop and no memory. Ties go to the order in which the nodes were given.
        """
        if objective == "latency":
            label = self._least_sum()
        else:
            found = (self._shortest_bottleneck(count) for count in reversed(self._counts()))
            label = next((label for label in found if label is not None), None)
        return label.stages() if label is not None else None

    def is_possible(self) -> bool:
        """Whether there is any split at all."""
        if self._is_excluded(NEVER):
            return False
        if not self._shared_bytes and not self._pinned:
            return True
        return any(self._is_possible_for(count, NEVER) for count in self._counts())

    def _counts(self) -> range:
        return range(max(1, self._pinned.bit_count()), min(len(self.nodes), self.ends) + 1)

    def _shortest_bottleneck(self, count: int) -> Label | None:
        """The best label over `count` nodes whose slowest stage is as short as can be."""
        times = sorted({time for rows in self._table for row in rows for time, _ in row})
        first = bisect_left(times, True, key=lambda limit: not self._is_excluded(limit))
        if first == len(times):
            return None
        found = first  # mostly the bound is met; else go up in growing steps, then narrow down
        while not self._is_possible_for(count, times[found]):
            if found == first and not self._is_possible_for(count, NEVER):
                return None
            first, found = found + 1, min(2 * found - first + 1, len(times) - 1)
        found = bisect_left(times, True, first, found, key=lambda limit: self._is_possible_for(count, limit))
        return self._cheapest(count, times[found], _sum_then_even)

    def _is_possible_for(self, count: int, limit: int) -> bool:
        """Whether exactly `count` nodes can do it with no stage above `limit`: depth first, long stages first."""
        bounds, front = self._bounds(limit), Front()
        stack = [(0, self._nothing_yet())]
        while stack:
            mask, label = stack.pop()
            left = count - mask.bit_count()
            if left == 0:
                if not self._pinned & ~mask:
                    return True
                continue
            start = label.stage.stop if label.stage else 0
            for stage in self._stages_from(mask, start, limit, self.ends - left + 1, last=left == 1):
                after = mask | 1 << stage.node
                if (new := self._extend(front, after, label, stage, _nothing, bounds)) is not None:
                    stack.append((after, new))
        return False

    def _is_excluded(self, limit: int) -> bool:
        """Whether certainly no split keeps every stage below `limit`."""
        return self._bounds(limit).exclude(self._everyone, 0, self._nothing_yet())

    def _cheapest(self, count: int, limit: int, weigh: Callable[[int], Cost]) -> Label | None:
        """The label of least cost over exactly `count` nodes, no stage above `limit`; a stage adds `weigh(time)`."""
        bounds = self._bounds(limit)
        front = Front()
        front.add(0, 0, self._nothing_yet())
        for used in range(1, count + 1):
            following = Front()
            for (mask, start), labels in front.labels.items():
                for stage in self._stages_from(mask, start, limit, self.ends - (count - used), used == count):
                    for label in labels:
                        self._extend(following, mask | 1 << stage.node, label, stage, weigh, bounds)
            front = following
        ends = [label for (mask, _), labels in front.labels.items() if not self._pinned & ~mask for label in labels]
        return min(ends, key=lambda label: label.cost, default=None)

    def _least_sum(self) -> Label | None:
        """Best first: labels in the order of their cost and the least that is still to come, until one is complete."""
        to_go = least_to_go([self._times(n) for n in range(len(self.nodes))], self._pinned)
        bounds, front, ticket = self._bounds(NEVER), Front(), counter()
        idle = self._superfluous()
        queue = [(to_go[self._everyone & ~idle][0], 0, next(ticket), idle, self._nothing_yet())]
        while queue:
            least, _, _, mask, label = heappop(queue)
            start = label.stage.stop if label.stage else 0
            if least >= NEVER or start == self.ends:
                return label if least < NEVER else None
            for stage in self._stages_from(mask, start, NEVER, self.ends, last=False):
                after = mask | 1 << stage.node
                if (new := self._extend(front, after, label, stage, _with_count, bounds)) is not None:
                    bound = new.cost[0] + to_go[self._everyone & ~after][stage.stop]
                    heappush(queue, (bound, new.cost[1], next(ticket), after, new))
        return None

    def _superfluous(self) -> int:
        """Unpinned nodes whose pool an earlier unpinned node draws from."""
        unpinned = [n for n in range(len(self.nodes)) if not self._pinned >> n & 1]
        return sum(1 << n for n in unpinned if any(self.nodes[m].pool == self.nodes[n].pool for m in unpinned if m < n))

    def _nothing_yet(self) -> Label:
        return Label((0, 0), (0,) * len(self._shared_bytes))

    def _extend(
        self,
        front: Front,
        mask: int,
        label: Label,
        stage: Placement,
        weigh: Callable[[int], Cost],
        bounds: Bounds,
    ) -> Label | None:
        """`label` with `stage`, if it fits, can be completed, and `front` keeps it."""
        time, size = self._table[stage.node][stage.start][stage.stop]
        new = label.followed_by(stage, weigh(time), self._shared_pool[stage.node], size)
        if not fits(new, self._shared_bytes) or bounds.exclude(self._everyone & ~mask, stage.stop, new):
            return None
        return new if front.add(mask, stage.stop, new) else None

    def _stages_from(self, mask: int, start: int, limit: int, furthest: int, last: bool) -> Iterator[Placement]:
        """Every stage that may follow at `start`, on a node not in `mask`."""
        for n, node in enumerate(self.nodes):
            if mask >> n & 1 or self._earlier_twins[n] & ~mask:
                continue
            row = self._table[n][start]
            for stop in range(self.ends if last else start + 1, furthest + 1):
                time, size = row[stop]
                if time > limit or size > self._budgets[n]:
                    break
                if node.pin is None or node.pin.get(start) == stop:
                    yield Placement(n, start, stop)

    def _times(self, n: int) -> Times:
        """The times of all stages on node `n`, NEVER for what its memory or pin forbids."""
        times = np.full((self.ends + 1, self.ends + 1), NEVER, np.int64)
        for start in range(self.ends):
            for stage in self._stages_from(self._everyone & ~(1 << n), start, NEVER, self.ends, last=False):
                times[start, stage.stop] = self._table[n][start][stage.stop][0]
        return times

    def _bounds(self, limit: int) -> Bounds:
        """What can be said of every set of nodes when no stage may take longer than `limit`."""
        reach, own = [self.ends], [0]
        shared = [[0] * len(self._shared_bytes)]
        most = [self._most_bytes(n, limit) for n in range(len(self.nodes))]
        for mask in range(1, self._everyone + 1):
            members = [n for n in range(len(self.nodes)) if mask >> n & 1]
            reach.append(min(self._furthest_start(n, reach[mask & ~(1 << n)], limit) for n in members))
            last = members[-1]
            pool, rest = self._shared_pool[last], mask & ~(1 << last)
            own.append(own[rest] + (most[last] if pool is None else 0))
            shared.append([room + (most[last] if index == pool else 0) for index, room in enumerate(shared[rest])])
        return Bounds(reach, own, shared, self._shared_bytes, self._bytes_to_go)

    def _most_bytes(self, n: int, limit: int) -> int:
        """The largest stage that node `n` takes within `limit`."""
        everyone_else = self._everyone & ~(1 << n)
        stages = (
            s for a in range(self.ends) for s in self._stages_from(everyone_else, a, limit, self.ends, last=False)
        )
        return max((self._table[n][stage.start][stage.stop][1] for stage in stages), default=0)

    def _furthest_start(self, n: int, stop: int, limit: int) -> int:
        """The smallest start of a stage on node `n` that ends at `stop` (a pin is taken as its longest stage)."""
        pin = self.nodes[n].pin
        if pin is not None:
            return min((start for start, end in pin.items() if end >= stop), default=stop)
        low, high = 0, stop
        while low < high:
            middle = (low + high) // 2
            time, size = self._table[n][middle][stop]
            low, high = (low, middle) if time <= limit and size <= self._budgets[n] else (middle + 1, high)
        return low

    def _twins_before(self, n: int) -> int:
        """The interchangeable nodes given before `n`: they are used first."""
        return sum(1 << m for m in range(n) if self.nodes[m].kind == self.nodes[n].kind)


def _nothing(_time: int) -> Cost:
    return 0, 0


def _with_count(time: int) -> Cost:
    return time, 1


def _sum_then_even(time: int) -> Cost:
    return time, time * time
