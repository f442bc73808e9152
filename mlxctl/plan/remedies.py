"""What would make a plan possible; the largest context and concurrency that fit. Pure; for planner and explain."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from mlxctl.facts import CACHE_STEP_TOKENS, ModelFacts, NodeFacts
from mlxctl.plan.kv import quantization_fault
from mlxctl.plan.problem import Problem
from mlxctl.profile import Node, Profile

MAX_CONCURRENCY = 1024
FOUR_BITS = 4.5
"""Bits a weight of a 4-bit model takes, scales and biases of groups of 64 included."""

MORE_MEMORY_GIB = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
"""Sizes of the node that is suggested."""

NEW_NODE = "another"
_GIB = 1 << 30
_BITS = re.compile(r"(\d+)-bit")


def fits(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, context: int, concurrency: int) -> bool:
    """Whether any split holds `concurrency` sequences of `context` tokens."""
    return Problem(profile, nodes, model, context, concurrency).search().is_possible()


def largest_context(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, concurrency: int) -> int:
    """The longest context (in cache steps, at most the model's) of which `concurrency` fit; 0 if none."""
    steps = -(-model.context_limit // CACHE_STEP_TOKENS)
    found = _largest(steps, lambda step: fits(profile, nodes, model, step * CACHE_STEP_TOKENS, concurrency))
    return min(found * CACHE_STEP_TOKENS, model.context_limit)


def largest_concurrency(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, context: int) -> int:
    """How many sequences of `context` tokens fit at once, at most 1024; 0 if none."""
    return _largest(MAX_CONCURRENCY, lambda count: fits(profile, nodes, model, context, count))


def why_not(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, context: int) -> tuple[str, str]:
    """What is missing, and what would help: message and hint of DoesNotFit."""
    problem = Problem(profile, nodes, model, context, profile.concurrency)
    have = sum(pool.bytes for pool in problem.pools)
    need = min(problem.needed_bytes(node, 0, model.layer_count) for node in nodes)
    message = (
        f"{model.name} with {profile.concurrency} x {context} tokens needs {need / _GIB:.1f} GiB and more; "
        f"{nodes[0].name if len(nodes) == 1 else f'the {len(nodes)} nodes'} may use {have / _GIB:.1f} GiB"
    )
    ways = list(_ways(profile, nodes, model, context))
    return message, f"this would fit: {'; '.join(ways)}" if ways else "use a smaller model, or much larger nodes"


def _ways(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, context: int) -> Iterator[str]:
    if shorter := largest_context(profile, nodes, model, profile.concurrency):
        yield f"context {shorter}"
    if fewer := largest_concurrency(profile, nodes, model, context):
        yield f"concurrency {fewer}"
    if profile.kv_bits is None and quantization_fault(model, profile.kv_group_size) is None:
        packed = profile.model_copy(update={"kv_bits": 8})
        if fits(packed, nodes, model, context, profile.concurrency):
            yield "kv_bits 8"
    if profile.placement.layers and fits(_unpinned(profile), nodes, model, context, profile.concurrency):
        yield "no pins"
    if (small := _four_bit(model)) and fits(profile, nodes, small, context, profile.concurrency):
        yield "a 4-bit version of the model"
    if (size := _more_memory(profile, nodes, model, context)) is not None:
        yield f"another node with {size} GB free for it"


def _unpinned(profile: Profile) -> Profile:
    return profile.model_copy(update={"placement": profile.placement.model_copy(update={"layers": {}})})


def _four_bit(model: ModelFacts) -> ModelFacts | None:
    """`model` with its layers' weights in 4 bits; None if they are already."""
    found = _BITS.match(model.quantization)
    bits = int(found[1]) + 0.5 if found else {"float32": 32.0}.get(model.dtype, 16.0)
    if bits <= FOUR_BITS or model.quantization.endswith("fp4"):
        return None
    layers = (replace(layer, weight_bytes=round(layer.weight_bytes * FOUR_BITS / bits)) for layer in model.layers)
    return replace(model, layers=tuple(layers))


def _more_memory(profile: Profile, nodes: Sequence[NodeFacts], model: ModelFacts, context: int) -> int | None:
    """The smallest further node that makes the plan possible."""
    for size in MORE_MEMORY_GIB:
        node = Node(name=NEW_NODE, host=NEW_NODE, memory_bytes=size * _GIB)
        facts = replace(nodes[0], name=NEW_NODE, host_id=NEW_NODE, memory_bytes=size * _GIB)
        wider = profile.model_copy(update={"nodes": (*profile.nodes, node)})
        if fits(wider, (*nodes, facts), model, context, profile.concurrency):
            return size
    return None


def _largest(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest number in 1 … limit for which `holds` (true up to some point, false after it); 0 if none."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
