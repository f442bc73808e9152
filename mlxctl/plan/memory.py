"""How many bytes a stage needs and how many a node can give. Pure; called by the planner and the explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from mlxctl.facts import CHUNK_TOKENS, LayerFacts, ModelFacts, NodeFacts
from mlxctl.plan.kv import is_quantized
from mlxctl.profile import Profile

PROCESS_BYTES = 256 << 20
"""A worker before it holds anything: interpreter, mlx, gRPC (measured 150 to 200 MiB), and some slack."""

SLACK_SHARE = 0.03
"""Of all else, for allocator rounding and freed buffers that mlx keeps."""

FRAMES_PER_STAGE = 2
"""Chunks of prompts that the coordinator keeps under way for each stage; all of them may wait at one."""

FRAME_COPIES = 2
"""A frame that waits at a stage is there as bytes and as an array."""

MATRIX_COPIES = 2
"""What comes out of each of a layer's matrices is held once as it is and once changed: turned, gated, normed."""

FLOAT32_HIDDEN = 8
"""Hidden states in float32 beside them: norms compute in it, residuals stay."""

JOINED_COPIES = 2
"""Of one layer's caches of all sequences, while those of unequal length join a lane: padded, and put together."""

GROWN_COPIES = 1
"""Of one layer's caches of the one sequence in a step, where none can join: they grow into new ones."""

QUANTIZED_COPIES = 1
"""More of them where they are quantized: products of packed numbers are given the rows in use, put together."""

LOGITS_COPIES = 4
"""Copies of a step's float32 logits while a token is sampled."""


@dataclass(frozen=True, slots=True)
class StageBytes:
    """What one stage needs, by purpose. To work: computing the largest step, copying caches as they grow or join a
    lane, frames under way, logits.
    """

    weights: int
    kv: int
    step: int
    copies: int
    frames: int
    logits: int

    @property
    def activations(self) -> int:
        return self.step + self.copies + self.frames + self.logits

    @property
    def headroom(self) -> int:
        return PROCESS_BYTES + int((self.weights + self.kv + self.activations + PROCESS_BYTES) * SLACK_SHARE)

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.activations + self.headroom


class StageMemory:
    """Bytes of any stage [start, stop) of `model` for `concurrency` sequences of `context` tokens; at most `stages` are
    planned. Prompts are computed `chunk_tokens` at once, without it as many as the node's attention allows.

    One step computes at a time: the largest is a chunk of a prompt, or where attention is not fused (CPU, heads that no
    kernel takes) its scores against the whole context. Its layers follow each other, so that the largest layer's count.
    """

    def __init__(
        self,
        model: ModelFacts,
        context: int,
        concurrency: int,
        fused_attention: bool,
        stages: int = 1,
        chunk_tokens: int | None = None,
    ) -> None:
        self._model = model
        chunk = chunk_tokens or CHUNK_TOKENS[fused_attention]
        self._stage_kv = sum(cache.bytes(context, chunk=chunk) for cache in model.stage_caches) * concurrency
        sequence_kv = [layer.kv_bytes(context, chunk=chunk) for layer in model.layers]
        copies = _cache_copies(model, concurrency)
        self._layer_copies = [copies * size for size in sequence_kv]
        self._weights_before = list(accumulate((layer.weight_bytes for layer in model.layers), initial=0))
        self._kv_before = list(accumulate((size * concurrency for size in sequence_kv), initial=0))
        tokens = max(chunk, concurrency)
        self._layer_work = [
            _computing_bytes(model, layer, tokens)
            + _scores_bytes(model, layer, tokens, context, 0 if fused_attention else layer.score_heads)
            for layer in model.layers
        ]
        self._frames = FRAME_COPIES * FRAMES_PER_STAGE * stages * chunk * model.boundary_token_bytes
        self._logits = concurrency * model.vocab_size * 4 * LOGITS_COPIES

    def of(self, start: int, stop: int) -> StageBytes:
        """What the stage that runs layers [start, stop) needs."""
        kv = self._kv_before[stop] - self._kv_before[start] + self._stage_kv
        weights = self._weights_before[stop] - self._weights_before[start] + self._others(start, stop)
        first, last = start == 0, stop == self._model.layer_count
        return StageBytes(
            weights=weights,
            kv=kv,
            step=max(self._layer_work[start:stop], default=0),
            copies=max(self._layer_copies[start:stop], default=0),
            frames=0 if first and last else self._frames,
            logits=self._logits if last else 0,
        )

    def _others(self, start: int, stop: int) -> int:
        """Weights outside the layers; a tied embedding is on both ends, once where they are one stage."""
        model = self._model
        first, last = start == 0, stop == model.layer_count
        size = model.other_every_bytes
        size += model.embedding_bytes if first or (last and model.tied) else 0
        size += model.other_first_bytes if first else 0
        size += model.head_bytes + model.other_last_bytes if last else 0
        return size


def _cache_copies(model: ModelFacts, concurrency: int) -> int:
    """How many copies of one sequence's caches in one layer a step, or sequences that join, need."""
    if concurrency > 1 and model.is_batchable:
        return JOINED_COPIES * concurrency
    return GROWN_COPIES + (QUANTIZED_COPIES if is_quantized(model) else 0)


def _computing_bytes(model: ModelFacts, layer: LayerFacts, tokens: int) -> int:
    """What `layer` holds of `tokens` tokens between its input and its output."""
    return tokens * (MATRIX_COPIES * layer.token_width * model.number_bytes + FLOAT32_HIDDEN * model.hidden_size * 4)


def _scores_bytes(model: ModelFacts, layer: LayerFacts, tokens: int, context: int, heads: int) -> int:
    """The scores of `heads` heads, for `tokens` tokens against all that they see, and the mask over them."""
    seen = int(min(context, layer.window_tokens + tokens))
    return (heads + 1) * tokens * seen * model.number_bytes


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
