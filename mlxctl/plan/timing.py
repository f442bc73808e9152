"""How long a stage takes: bytes over bandwidth, arithmetic over its rate, one hop. Pure; for planner and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from mlxctl.facts import BATCH_TOKENS, ModelFacts, NodeFacts

Bound = Literal["memory bandwidth", "arithmetic", "hops"]

ASSUMED_BANDWIDTH_BYTES_PER_S = 50e9
"""For a node of which nothing is known."""

USABLE_BANDWIDTH = 0.8
USABLE_FLOPS = 0.6
"""Of a published figure, what decoding and prefill reach in practice; measured figures are taken as they are."""

ARITHMETIC_SHARE = 0.5
"""A step is called bound by arithmetic where that alone takes this share of it: on CPUs reading and computing overlap
little, and a measured reading rate has both in it.
"""

LOCAL_HOP_S = 0.3e-3
"""From one worker's result to the next one's start on the same machine (measured 0.14 to 0.5 ms)."""

LINK_HOP_S = 0.6e-3
"""The same over an Ethernet of which nothing is known."""

LINK_BYTES_PER_S = 117e6
"""What 1 Gb/s Ethernet carries: the assumption for a link of which nothing is known."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds that one step of one lane keeps a stage busy, and what bounds them. What the step hands to the next stage
    keeps the link between them busy for `carried_s`; the last stage's token is nothing beside it.
    """

    compute_s: float
    latency_s: float
    carried_s: float
    bound: Bound

    @property
    def hop_s(self) -> float:
        return self.latency_s + self.carried_s

    @property
    def busy_s(self) -> float:
        """How soon the next step can follow: a stage computes one while another is under way to the next stage."""
        return max(self.compute_s, self.carried_s)

    @property
    def total_s(self) -> float:
        return self.compute_s + self.hop_s


class StageTiming:
    """Times of any stage for a step over `rows` sequences of `tokens` new tokens each, `past` tokens in the caches.

    Without `logits` (all chunks of a prompt but its last token) the head is left out.
    """

    def __init__(self, model: ModelFacts, rows: int, tokens: int, past: int, logits: bool = True) -> None:
        steps = self._tokens = rows * tokens
        self._read_before = list(accumulate((layer.read_bytes(steps) for layer in model.layers), initial=0))
        self._kv_before = list(accumulate((rows * layer.kv_bytes(past, 1) for layer in model.layers), initial=0))
        self._macs_before = list(accumulate((layer.token_macs * steps for layer in model.layers), initial=0))
        self._boundary_bytes = model.boundary_token_bytes * steps
        self._end = model.layer_count
        self._head_bytes = model.output_bytes if logits else 0
        self._head_macs = model.head_macs * rows if logits else 0

    def of(
        self, node: NodeFacts, start: int, stop: int, sharers: int, one_host: bool, following: NodeFacts | None = None
    ) -> StepTime:
        """The step of layers [start, stop) on `node`, of whose machine `sharers` processes compute at once; `following`
        has the next stage, if that is known.
        """
        last = stop == self._end
        size = self._read_before[stop] - self._read_before[start] + (self._head_bytes if last else 0)
        macs = self._macs_before[stop] - self._macs_before[start] + (self._head_macs if last else 0)
        cached = self._kv_before[stop] - self._kv_before[start]
        bandwidth, flops = usable_bandwidth(node), usable_flops(node)
        read_s, cached_s = size / bandwidth, cached / (node.cache_bytes_per_s or bandwidth)
        arithmetic_s = 2 * macs / flops if flops else 0.0
        matrices_s = max(read_s, arithmetic_s, self._batch_s(node, macs, read_s))
        compute_s = (matrices_s + cached_s) * max(1.0, sharers / node.parallel_workers)
        latency_s = LOCAL_HOP_S if one_host else node.link_latency_s or LINK_HOP_S
        carried_s = 0.0 if one_host or last else self._boundary_bytes / _link_bytes_per_s(node, following or node)
        is_arithmetic = arithmetic_s > (read_s + cached_s) * ARITHMETIC_SHARE
        bound: Bound = "arithmetic" if is_arithmetic else "memory bandwidth"
        return StepTime(compute_s, latency_s, carried_s, bound if compute_s >= latency_s + carried_s else "hops")

    def _batch_s(self, node: NodeFacts, macs: int, read_s: float) -> float:
        """Between the time of one token and the one measured of BATCH_TOKENS, which more tokens take at least."""
        if not node.batch_flops:
            return 0.0
        measured_s = 2 * macs / self._tokens * BATCH_TOKENS / node.batch_flops
        share = min(self._tokens - 1, BATCH_TOKENS - 1) / (BATCH_TOKENS - 1)
        return read_s + share * (measured_s - read_s)


def _link_bytes_per_s(*nodes: NodeFacts) -> float:
    """What the slowest of their links carries."""
    return min(node.link_bytes_per_s or LINK_BYTES_PER_S for node in nodes)


def usable_bandwidth(node: NodeFacts) -> float:
    """Bytes a second that decoding reads on `node`."""
    if node.bandwidth_bytes_per_s is None:
        return ASSUMED_BANDWIDTH_BYTES_PER_S
    measured = node.sources.get("bandwidth_bytes_per_s") == "measured"
    return node.bandwidth_bytes_per_s * (1.0 if measured else USABLE_BANDWIDTH)


def usable_flops(node: NodeFacts) -> float | None:
    """Operations a second that matrix products reach on `node`; None if nothing is known."""
    if node.flops is None:
        return None
    return node.flops * (1.0 if node.sources.get("flops") == "measured" else USABLE_FLOPS)


def sharers(nodes: Sequence[NodeFacts], node: NodeFacts) -> int:
    """How many of `nodes` run on the machine of `node`."""
    return sum(other.host_id == node.host_id for other in nodes)
