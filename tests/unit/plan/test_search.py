"""The search against trying everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxctl.plan.labels import Placement
from mlxctl.plan.search import Candidate, Search
from mlxctl.plan.stages import Objective

pytestmark = pytest.mark.unit


class Case:
    """A small problem: segment times and sizes, node speeds, pools; costs grow with the stage."""

    def __init__(
        self,
        pieces: Sequence[tuple[int, int]],
        speeds: Sequence[int],
        pool_of: Sequence[int],
        pools: Sequence[int],
        ends: tuple[int, int],
        pins: Sequence[int | None],
    ) -> None:
        self.pieces, self.speeds, self.pool_of, self.pools, self.edge = pieces, speeds, pool_of, pools, ends
        self.pins = pins
        self.ends = len(pieces)

    def cost(self, node: int, start: int, stop: int) -> tuple[int, int]:
        if stop <= start:
            return 0, 0
        time = sum(time for time, _ in self.pieces[start:stop]) * self.speeds[node] + 1
        size = sum(size for _, size in self.pieces[start:stop])
        size += self.edge[0] * (start == 0) + self.edge[1] * (stop == self.ends)
        time += self.edge[1] * (stop == self.ends) * self.speeds[node]
        return time, size

    def search(self) -> Search:
        nodes = []
        for n in range(len(self.speeds)):
            length = self.pins[n]
            pin = None
            if length is not None:
                pin = {start: start + length for start in range(self.ends - length + 1)}
            shared = self.pool_of.count(self.pool_of[n]) > 1
            pool = self.pool_of[n] if shared else ("own", self.pools[self.pool_of[n]])
            nodes.append(Candidate(self.pool_of[n], (pool, self.speeds[n], length), pin))
        return Search(self.ends, nodes, self.pools, self.cost)

    def all_splits(self, objective: Objective) -> Iterator[tuple[Placement, ...]]:
        """Every split that fits, pins kept; for latency one unpinned node a pool."""
        firsts = {pool: n for n, pool in reversed(list(enumerate(self.pool_of))) if self.pins[n] is None}
        pinned = {n for n, length in enumerate(self.pins) if length is not None}
        for count in range(1, min(self.ends, len(self.speeds)) + 1):
            for order in permutations(range(len(self.speeds)), count):
                if not pinned <= set(order):
                    continue
                if objective == "latency" and not set(order) <= pinned | set(firsts.values()):
                    continue
                for cuts in combinations(range(1, self.ends), count - 1):
                    bounds = (0, *cuts, self.ends)
                    split = tuple(Placement(n, a, b) for n, a, b in zip(order, bounds, bounds[1:], strict=False))
                    if self._fits(split):
                        yield split

    def _fits(self, split: Sequence[Placement]) -> bool:
        taken = [0] * len(self.pools)
        for stage in split:
            if self.pins[stage.node] not in (None, stage.stop - stage.start):
                return False
            taken[self.pool_of[stage.node]] += self.cost(stage.node, stage.start, stage.stop)[1]
        return all(a <= b for a, b in zip(taken, self.pools, strict=True))

    def key(self, split: Sequence[Placement], objective: Objective) -> tuple[int, ...]:
        times = [self.cost(stage.node, stage.start, stage.stop)[0] for stage in split]
        if objective == "latency":
            return sum(times), len(split)
        return -len(split), max(times), sum(times), sum(time * time for time in times)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    pieces = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=6))
    count = draw(st.integers(1, 4))
    pool_of = draw(st.lists(st.integers(0, count - 1), min_size=count, max_size=count))
    speeds = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    pools = draw(st.lists(st.integers(0, 25), min_size=count, max_size=count))
    edge = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    pin = st.none() | st.integers(1, len(pieces))
    pins = draw(st.lists(st.none() | st.none() | pin, min_size=count, max_size=count))
    return Case(pieces, speeds, pool_of, pools, edge, pins)


@given(cases(), st.sampled_from(["throughput", "latency"]))
@settings(max_examples=300, deadline=None)
def test_the_search_finds_what_trying_everything_finds(case: Case, objective: Objective) -> None:
    found = case.search().best(objective)
    best = min((case.key(split, objective) for split in case.all_splits(objective)), default=None)
    assert (case.key(found, objective) if found is not None else None) == best
    if found is not None:
        assert case._fits(found)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_possible_means_that_some_split_fits(case: Case) -> None:
    assert case.search().is_possible() == any(True for _ in case.all_splits("throughput"))


@given(cases(), st.sampled_from(["throughput", "latency"]))
@settings(max_examples=50, deadline=None)
def test_the_same_problem_has_the_same_answer(case: Case, objective: Objective) -> None:
    assert case.search().best(objective) == case.search().best(objective)


def test_equal_nodes_are_used_in_the_order_given() -> None:
    case = Case([(1, 1)] * 6, [1, 1, 1], [0, 1, 2], [9, 9, 9], (0, 0), [None] * 3)
    assert case.search().best("throughput") == (Placement(0, 0, 2), Placement(1, 2, 4), Placement(2, 4, 6))


def test_what_is_left_over_is_shared_out_evenly() -> None:
    case = Case([(1, 1)] * 9, [1, 1, 1, 1], [0, 1, 2, 3], [9] * 4, (0, 0), [None] * 4)
    found = case.search().best("throughput")
    assert found is not None
    assert sorted(stage.stop - stage.start for stage in found) == [2, 2, 2, 3]


def test_eight_different_nodes_and_eighty_pieces_are_searched_exactly() -> None:
    case = Case([(10, 10)] * 80, [7, 8, 9, 10, 11, 12, 13, 14], list(range(8)), [200] * 8, (5, 9), [None] * 8)
    found = case.search().best("throughput")
    assert found is not None and len(found) == 8
    # No stage may be emptier than the bottleneck by two pieces on a node that could take one of them.
    slowest = max(case.cost(stage.node, stage.start, stage.stop)[0] for stage in found)
    assert slowest <= 1100
