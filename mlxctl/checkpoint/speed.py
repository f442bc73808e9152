"""How fast this machine runs a model's own layers: its first few are loaded and timed. Called by `plan` and `bench`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models import cache as mlx_cache

from mlxctl.errors import CheckpointError
from mlxctl.facts import BATCH_TOKENS, CACHE_STEP_TOKENS, ModelFacts, NodeFacts
from mlxctl.sharding import ShardCache
from mlxctl.sharding.load import load_model

SAMPLE_BYTES = 256 << 20
"""Layers are taken until they hold this much."""

DECODE_S = 0.3
"""Steps of one token are repeated for this long, and the shortest counts: whatever else runs here only adds."""

DEEP_TOKENS = 1024
LEAST_ADDED = 0.03
"""So many tokens in the caches make a step longer; by less than this share of it, times vary."""

REST_S = 0.02
"""Long enough for a core to halt, and for others to use its caches."""

SHORT_CHUNK_TOKENS = 32
PATIENCE_S = 0.05
"""A prefill chunk of full length is measured only where a short one takes less than this."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What one worker reaches alone: weight bytes read a second while it decodes, operations a second in a prefill
    chunk and in a step of BATCH_TOKENS, how many processor cores it keeps busy, how much longer a step takes after a
    rest, and cache bytes read a second while it decodes (None: as weights).
    """

    bytes_per_s: float
    flops: float
    cores: float
    batch_flops: float
    rested_s: float
    cache_bytes_per_s: float | None = None

    def of(self, node: NodeFacts) -> NodeFacts:
        """`node` with these figures, of its machine."""
        figures: dict[str, Any] = {"bandwidth_bytes_per_s": self.bytes_per_s, "flops": self.flops}
        return replace(
            node,
            **figures,
            batch_flops=self.batch_flops,
            rested_s=self.rested_s,
            cache_bytes_per_s=self.cache_bytes_per_s,
            parallel_workers=max(1.0, node.parallel_workers / self.cores),
            sources={**node.sources, **dict.fromkeys(figures, "measured")},
        )


def with_measured_speed(nodes: Sequence[NodeFacts], local: Collection[str], model: ModelFacts) -> tuple[NodeFacts, ...]:
    """`nodes` with this machine's speed measured for those named in `local`, if there are any and weights are here."""
    if not local or not model.has_weights:
        return tuple(nodes)
    try:
        speed = measure_speed(model)
    except CheckpointError:
        return tuple(nodes)  # what cannot run here can still be planned; `up` says why it cannot run
    return tuple(speed.of(node) if node.name in local else node for node in nodes)


def measure_speed(model: ModelFacts) -> Speed:
    """Load the first layers of `model` and time them. Raises CheckpointError. Uses the calling thread for MLX."""
    stop = sample_stop(model)
    shard = load_model(Path(model.path), 0, stop, on_progress=lambda progress: None)
    shard.warm_up()
    cache = shard.make_cache()

    def step(tokens: int) -> None:
        output = shard.forward(mx.zeros((1, tokens), mx.int32), None, cache)
        mx.eval(output.arrays(), cache.arrays())

    batch_s, _ = _shortest(lambda: step(BATCH_TOKENS), 0.0, 2)
    tokens = SHORT_CHUNK_TOKENS
    chunk_s, _ = _shortest(lambda: step(SHORT_CHUNK_TOKENS), 0.0, 2)
    if chunk_s < PATIENCE_S:
        tokens = CACHE_STEP_TOKENS
        chunk_s, _ = _shortest(lambda: step(CACHE_STEP_TOKENS), 0.0, 3)
    cache = shard.make_cache()
    token_s, cores = _shortest(lambda: step(1), DECODE_S, 8)
    layers = model.layers[:stop]
    whole = stop == model.layer_count
    operations = 2 * (sum(layer.token_macs for layer in layers) + (model.head_macs if whole else 0))
    read_bytes = sum(layer.read_bytes(1) for layer in layers) + (model.output_bytes if whole else 0)
    rested_s, _ = _shortest(lambda: step(1), 0.0, 5, REST_S)
    speed = Speed(
        read_bytes / token_s,
        operations * tokens / chunk_s,
        cores,
        operations * BATCH_TOKENS / batch_s,
        max(0.0, rested_s - token_s),
    )
    if not deepen(cache, DEEP_TOKENS):
        return speed
    deep_s, _ = _shortest(lambda: step(1), 0.0, 5)
    cache_bytes = sum(layer.kv_bytes(DEEP_TOKENS, 1) for layer in layers)
    added_s = max(deep_s - token_s, token_s * LEAST_ADDED)
    return replace(speed, cache_bytes_per_s=max(speed.bytes_per_s, cache_bytes / added_s))


def deepen(cache: ShardCache, tokens: int) -> bool:
    """Let `cache` hold `tokens` blank tokens; whether it is of a kind that can."""
    held = {id(slot): slot for slot in cache.slots}.values()
    if any(type(slot) is not mlx_cache.KVCache for slot in held):
        return False
    for slot in held:
        if slot.keys is not None:
            slot.keys, slot.values = (
                mx.zeros((*array.shape[:2], tokens, array.shape[3]), array.dtype) for array in (slot.keys, slot.values)
            )
            slot.offset = tokens
    return True


def sample_stop(model: ModelFacts) -> int:
    """The first cut that leaves enough layers before it to measure, else the last one, else the whole model."""
    size = 0
    for layer in model.layers:
        size += layer.weight_bytes
        if size >= SAMPLE_BYTES and layer.index + 1 in model.legal_cuts:
            return layer.index + 1
    return model.legal_cuts[-1] if model.legal_cuts else model.layer_count


def _shortest(work: Callable[[], None], at_least_s: float, times: int, rest_s: float = 0.0) -> tuple[float, float]:
    """The fewest seconds of one call of `work` and the cores it kept busy, over `times` calls and `at_least_s`, each
    after a rest.
    """
    taken: list[float] = []
    started, cpu_started = time.perf_counter(), time.process_time()
    while len(taken) < times or time.perf_counter() - started < at_least_s:
        time.sleep(rest_s)
        before = time.perf_counter()
        work()
        taken.append(time.perf_counter() - before)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    return min(taken), max(1.0, cpu / wall)
