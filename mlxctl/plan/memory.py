"""How many bytes a stage needs and how many a node can give. Pure; called by the planner and the explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from mlxctl.facts import CHUNK_TOKENS, ModelFacts, NodeFacts
from mlxctl.profile import Profile

PROCESS_BYTES = 256 << 20
"""A worker before it holds anything: interpreter, mlx, gRPC (measured 150 to 200 MiB), and some slack."""

SLACK_SHARE = 0.03
"""Of weights and caches, for allocator rounding and freed buffers that mlx keeps."""

LIVE_ACTIVATIONS = 32
"""Hidden states (in float32) alive at once while a prefill chunk passes a layer: MLP, attention inputs, residuals."""

LOGITS_COPIES = 4
"""Copies of a step's float32 logits while a token is sampled."""


@dataclass(frozen=True, slots=True)
class StageBytes:
    """What one stage needs, by purpose."""

    weights: int
    kv: int
    activations: int
    headroom: int

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.activations + self.headroom


class StageMemory:
    """Bytes of any stage [start, stop) of `model` for `concurrency` sequences of `context` tokens.

    Where attention is not fused (CPU), a prefill chunk's scores against the whole context are held too.
    """

    def __init__(self, model: ModelFacts, context: int, concurrency: int, fused_attention: bool) -> None:
        self._model = model
        self._stage_kv = sum(cache.bytes(context) for cache in model.stage_caches) * concurrency
        self._layer_kv = [layer.kv_bytes(context) * concurrency for layer in model.layers]
        self._weights_before = list(accumulate((layer.weight_bytes for layer in model.layers), initial=0))
        self._kv_before = list(accumulate(self._layer_kv, initial=0))
        tokens = CHUNK_TOKENS[fused_attention]
        scores = 0 if fused_attention else model.attention_heads * tokens * context * 4
        self._chunk = tokens * model.hidden_size * 4 * LIVE_ACTIVATIONS + scores
        self._logits = concurrency * model.vocab_size * 4 * LOGITS_COPIES

    def of(self, start: int, stop: int) -> StageBytes:
        """What the stage that runs layers [start, stop) needs."""
        kv = self._kv_before[stop] - self._kv_before[start] + self._stage_kv
        weights = self._weights_before[stop] - self._weights_before[start] + self._others(start, stop)
        growth = max(self._layer_kv[start:stop], default=0)
        logits = self._logits if stop == self._model.layer_count else 0
        headroom = PROCESS_BYTES + int((weights + kv) * SLACK_SHARE)
        return StageBytes(weights, kv, self._chunk + growth + logits, headroom)

    def _others(self, start: int, stop: int) -> int:
        """Weights outside the layers; a tied embedding is on both ends, once where they are one stage."""
        model = self._model
        first, last = start == 0, stop == model.layer_count
        size = model.other_every_bytes
        size += model.embedding_bytes if first or (last and model.tied) else 0
        size += model.other_first_bytes if first else 0
        size += model.head_bytes + model.other_last_bytes if last else 0
        return size


@dataclass(frozen=True, slots=True)
class Pool:
    """Memory that one node, or all unmeasured nodes of one machine together, may use."""

    bytes: int
    nodes: tuple[str, ...]
    reason: str


def memory_pools(profile: Profile, nodes: Sequence[NodeFacts]) -> tuple[Pool, ...]:
    """Who may use how much. A node whose profile sets `memory` has that, less its reserve, for itself.

    The others share their machine: the least of its wired limit, its memory less the reserve, and what is free now.
    """
    wanted = {node.name: node for node in profile.nodes}
    own = [
        Pool(_own_bytes(profile, node), (node.name,), "what the profile says")
        for node in nodes
        if _is_set(profile, node)
    ]
    hosts: dict[str, list[NodeFacts]] = {}
    for node in nodes:
        if not _is_set(profile, node):
            hosts.setdefault(node.host_id, []).append(node)
    shared = []
    for members in hosts.values():
        reserve = max(wanted[node.name].memory_reserve_bytes for node in members)
        limit, reason = _machine_limit(members[0], reserve)
        shared.append(Pool(max(0, limit), tuple(node.name for node in members), reason))
    return (*own, *shared)


def _is_set(profile: Profile, facts: NodeFacts) -> bool:
    return any(node.name == facts.name and node.memory_bytes is not None for node in profile.nodes)


def _own_bytes(profile: Profile, facts: NodeFacts) -> int:
    node = next(node for node in profile.nodes if node.name == facts.name)
    return max(0, (node.memory_bytes or 0) - node.memory_reserve_bytes)


def _machine_limit(facts: NodeFacts, reserve: int) -> tuple[int, str]:
    limits = [(facts.memory_bytes - reserve, "all but the reserve"), (facts.available_bytes, "what is free now")]
    if facts.wired_limit_bytes is not None:
        limits.append((facts.wired_limit_bytes, "what the GPU may wire"))
    return min(limits, key=lambda limit: limit[0])
