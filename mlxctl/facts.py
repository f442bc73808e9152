"""What is known of a model and of the nodes before anything is loaded. Pure data, imports nothing heavy; read by plan.

Every number is in bytes, tokens, seconds or per second, as its name says. `checkpoint` makes ModelFacts, `launch.probe`
and facts files make NodeFacts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

CHUNK_TOKENS = {False: 256, True: 1024}
"""Tokens of a prompt computed at once, at most: without and with fused attention."""

CACHE_STEP_TOKENS = 256
"""mlx-lm's caches grow by this many tokens at a time."""

BATCH_TOKENS = 8
"""Tokens of the step that says what batching costs."""

Source = Literal["measured", "table", "assumed", "profile"]


@dataclass(frozen=True, slots=True)
class CacheGrowth:
    """How one cache slot of one sequence grows: `fixed_bytes` plus `token_bytes` a token, up to `cap_tokens` if any.

    Of keys and values: `heads`, and the numbers in one head's key and value, `head_sizes`.
    """

    kind: str
    token_bytes: int
    fixed_bytes: int = 0
    cap_tokens: int | None = None
    heads: int = 0
    head_sizes: tuple[int, ...] = ()

    def bytes(self, tokens: int, step: int = CACHE_STEP_TOKENS, chunk: int = 1) -> int:
        """Bytes held after `tokens` tokens, the last `chunk` of them given at once; a capped cache keeps those beyond
        its window, all but one.
        """
        rows = -(-tokens // step) * step
        if self.cap_tokens is not None:
            rows = min(rows, self.cap_tokens + max(step, chunk) - 1)
        return self.fixed_bytes + self.token_bytes * rows


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One decoder layer. Of `weight_bytes`, `expert_bytes` are routed experts: a token reads a few of `experts`.

    `token_macs` is the number of multiply-adds that one token costs in this layer's matrices, `token_width` how many
    numbers come out of them. Attention scores of `score_heads` heads are held at once, unless a kernel fuses them, for
    which the layer must be `is_fusable`.
    """

    index: int
    weight_bytes: int
    caches: tuple[CacheGrowth, ...] = ()
    expert_bytes: int = 0
    experts: int = 0
    experts_per_token: int = 0
    token_macs: int = 0
    token_width: int = 0
    score_heads: int = 0
    is_fusable: bool = True

    @property
    def window_tokens(self) -> float:
        """How many tokens back its attention reaches: infinite, or as far as all of its caches do."""
        return max((cache.cap_tokens or math.inf for cache in self.caches), default=math.inf)

    def kv_bytes(self, tokens: int, step: int = CACHE_STEP_TOKENS, chunk: int = 1) -> int:
        """Cache bytes of one sequence of `tokens` tokens in this layer, held `step` and given `chunk` at a time."""
        return sum(cache.bytes(tokens, step, chunk) for cache in self.caches)

    def read_bytes(self, tokens: int) -> int:
        """Weight bytes that a step over `tokens` tokens reads, with routed experts chosen evenly."""
        if not self.experts:
            return self.weight_bytes
        touched = 1.0 - (1.0 - self.experts_per_token / self.experts) ** tokens
        return self.weight_bytes - self.expert_bytes + round(self.expert_bytes * touched)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model as the planner sees it. Cut c lies between layer c-1 and layer c.

    `embedding_bytes` lie on the first stage; `head_bytes` on the last, or, if `tied` (then 0), the embedding again.
    `other_first_bytes` and `other_last_bytes` (final norm …) go with the first and last stage, `other_every_bytes` and
    the caches `stage_caches` with each. `output_bytes` of all these are read to make logits of a hidden state.
    `boundary_token_bytes` cross a cut per token. `hash` covers the configuration and every tensor's name, dtype and
    shape. `has_weights` is false where only a configuration was found. `unsupported_here` says why the machine that
    read these facts cannot compute the model, if it cannot; `quantized_cache_fault` why it can have no `kv_bits`.
    Sequences can be decoded together if it `is_batchable`.
    """

    name: str
    path: str
    revision: str | None
    hash: str
    architecture: str
    layers: tuple[LayerFacts, ...]
    embedding_bytes: int
    head_bytes: int
    tied: bool
    legal_cuts: tuple[int, ...]
    context_limit: int
    vocab_size: int
    hidden_size: int
    dtype: str
    quantization: str
    illegal_cuts: Mapping[int, str] = field(default_factory=dict)
    other_first_bytes: int = 0
    other_last_bytes: int = 0
    other_every_bytes: int = 0
    output_bytes: int = 0
    boundary_token_bytes: int = 0
    stage_caches: tuple[CacheGrowth, ...] = ()
    head_macs: int = 0
    has_weights: bool = True
    unsupported_here: str | None = None
    quantized_cache_fault: str | None = None
    is_batchable: bool = True

    @property
    def number_bytes(self) -> int:
        """Of one number that a layer computes with."""
        return 4 if self.dtype == "float32" else 2

    @property
    def is_fusable(self) -> bool:
        """Whether fused attention leaves no layer's scores in memory."""
        return all(layer.is_fusable for layer in self.layers)

    @property
    def layer_count(self) -> int:
        return len(self.layers)

    @property
    def weight_bytes(self) -> int:
        """All weights once."""
        others = self.other_first_bytes + self.other_last_bytes + self.other_every_bytes
        return sum(layer.weight_bytes for layer in self.layers) + self.embedding_bytes + self.head_bytes + others


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node as the planner sees it; `sources` says for each field where its value comes from.

    Nodes with one `host_id` are processes of one machine and share its memory. `flops` is dense 16-bit floating-point
    operations a second. `link_bytes_per_s` and `link_latency_s` describe the network that other hosts reach it by,
    measured at the moment `link_measured_at` (ISO 8601) if they were.
    Where they were measured: `batch_flops` are those of a step of BATCH_TOKENS tokens, `cache_bytes_per_s` is how fast
    attention reads keys and values, `rested_s` how much longer a step takes after a rest. `parallel_workers` of the
    machine's processes compute at full speed side by side (CPU cores; one on a GPU).
    """

    name: str
    host_id: str
    chip: str
    os: str
    memory_bytes: int
    available_bytes: int
    wired_limit_bytes: int | None = None
    bandwidth_bytes_per_s: float | None = None
    flops: float | None = None
    batch_flops: float | None = None
    cache_bytes_per_s: float | None = None
    rested_s: float = 0.0
    link_bytes_per_s: float | None = None
    link_latency_s: float | None = None
    link_measured_at: str | None = None
    parallel_workers: float = 1.0
    sources: Mapping[str, Source] = field(default_factory=dict)

    @property
    def fused_attention(self) -> bool:
        """Whether attention scores stay inside a GPU kernel instead of filling memory."""
        return self.os == "macOS"
