"""In which order things are run, and when there is enough of them. Pure; called by the runner."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mlxctl.bench.statistics import summarise
from mlxctl.bench.suites import Suite

CLOSE = 0.10
"""Two warm-up runs in a row that differ by less: the machine has settled."""


def visit_plan(counts: Sequence[int], rounds: int) -> tuple[int, ...]:
    """Device counts in the order of their launches: there and back again (ABBA), so that slow drift hits all alike."""
    forth = sorted(set(counts))
    return tuple(count for turn in range(rounds) for count in (forth if turn % 2 == 0 else reversed(forth)))


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one workload is at one device count: its figures so far, on visit `visit` of `visits` (from 1)."""

    values: tuple[float, ...]
    blocks: tuple[int, ...]
    visit: int
    visits: int


def wants_more(standing: Standing, suite: Suite) -> bool:
    """Whether the workload is to be run once more on this visit. Each visit gets its share of the runs; beyond the
    least number the interval decides.
    """
    runs = len(standing.values)
    if runs < _share(suite.least_runs, standing):
        return True
    if runs >= _share(suite.most_runs, standing):
        return False
    width = summarise(standing.values, standing.blocks).relative_half_width
    return width is None or width > suite.target_half_width


def warm_enough(figures: Sequence[float | None], suite: Suite) -> bool:
    """Whether warm-up runs with these main figures are enough: two in a row are close, or there were plenty."""
    if len(figures) >= suite.most_warm_ups:
        return True
    if len(figures) < 2:
        return False
    before, last = figures[-2:]
    return before is not None and last is not None and abs(last - before) <= CLOSE * abs(before)


def shuffled(names: Sequence[str], seed: int, visit: int, turn: int) -> list[str]:
    """`names` in an order of their own for every turn of every visit, the same for the same seed."""
    order = list(names)
    random.Random(f"{seed}/{visit}/{turn}").shuffle(order)  # noqa: S311 - no secret
    return order


def _share(runs: int, standing: Standing) -> int:
    return -(-runs * standing.visit // standing.visits)
