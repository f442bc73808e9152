"""What would make a plan possible, and the largest context and concurrency that fit. Pure; for planner, `explain`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlxctl.facts import CACHE_STEP_TOKENS, ModelFacts, NodeFacts
from mlxctl.plan.problem import Problem
from mlxctl.profile import Profile

MAX_CONCURRENCY = 1024
GIB = 1 << 30


def fits(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, context: int, concurrency: int) -> bool:
    """Whether any split holds `concurrency` sequences of `context` tokens."""
    return Problem(profile, nodes, model, context, concurrency).search().best(profile.objective) is not None


def largest_context(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, concurrency: int) -> int:
    """The longest context (in cache steps, at most the model's) of which `concurrency` fit; 0 if none."""
    steps = -(-model.context_limit // CACHE_STEP_TOKENS)
    found = _largest(steps, lambda step: fits(profile, nodes, model, step * CACHE_STEP_TOKENS, concurrency))
    return min(found * CACHE_STEP_TOKENS, model.context_limit)


def largest_concurrency(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, context: int) -> int:
    """How many sequences of `context` tokens fit at once, at most 1024; 0 if none."""
    return _largest(MAX_CONCURRENCY, lambda count: fits(profile, nodes, model, context, count))


def why_not(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, context: int) -> tuple[str, str]:
    """What is missing, and what to do: for DoesNotFit."""
    concurrency = profile.concurrency
    problem = Problem(profile, nodes, model, context, concurrency)
    have = sum(pool.bytes for pool in problem.pools)
    need = problem.needed_bytes(nodes[0], 0, model.layer_count)
    message = (
        f"{model.name} with {concurrency} x {context} tokens needs {need / GIB:.1f} GiB on one node, more on several; "
        f"{_names(nodes)} may use {have / GIB:.1f} GiB"
    )
    ways = []
    if shorter := largest_context(profile, nodes, model, concurrency):
        ways.append(f"context {shorter} fits")
    if fewer := largest_concurrency(profile, nodes, model, context):
        ways.append(f"concurrency {fewer} fits")
    if not ways:
        ways.append("a smaller or 4-bit model, or another node")
    return message, "; ".join(ways)


def _names(nodes: Sequence[NodeFacts]) -> str:
    return nodes[0].name if len(nodes) == 1 else f"{len(nodes)} nodes together"


def _largest(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest number in 1 … limit for which `holds` (true up to some point, false after it); 0 if none."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
