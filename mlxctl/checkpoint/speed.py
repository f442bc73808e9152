"""How fast this machine runs a model's own layers: its first few are loaded and timed. Called by `plan` and `bench`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlxctl.errors import CheckpointError
from mlxctl.facts import CACHE_STEP_TOKENS, ModelFacts, NodeFacts
from mlxctl.sharding.load import load_model

SAMPLE_BYTES = 256 << 20
"""Layers are taken until they hold this much."""

DECODE_S = 0.3
"""Steps of one token are repeated for this long, and the shortest counts: whatever else runs here only adds."""

SHORT_CHUNK_TOKENS = 32
PATIENCE_S = 0.05
"""A prefill chunk of full length is measured only where a short one takes less than this."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What one worker reaches alone: weight bytes read a second while it decodes, operations a second in a prefill
    chunk, and how many processor cores it keeps busy.
    """

    bytes_per_s: float
    flops: float
    cores: float


def with_measured_speed(nodes: Sequence[NodeFacts], local: Collection[str], model: ModelFacts) -> tuple[NodeFacts, ...]:
    """`nodes` with this machine's speed measured for those named in `local`, if there are any and weights are here."""
    if not local or not model.has_weights:
        return tuple(nodes)
    try:
        speed = measure_speed(model)
    except CheckpointError:
        return tuple(nodes)  # what cannot run here can still be planned; `up` says why it cannot run
    return tuple(_timed(node, speed) if node.name in local else node for node in nodes)


def _timed(node: NodeFacts, speed: Speed) -> NodeFacts:
    figures: dict[str, Any] = {"bandwidth_bytes_per_s": speed.bytes_per_s, "flops": speed.flops}
    return replace(
        node,
        **figures,
        parallel_workers=max(1.0, node.parallel_workers / speed.cores),
        sources={**node.sources, **dict.fromkeys(figures, "measured")},
    )


def measure_speed(model: ModelFacts) -> Speed:
    """Load the first layers of `model` and time them. Raises CheckpointError. Uses the calling thread for MLX."""
    stop = sample_stop(model)
    shard = load_model(Path(model.path), 0, stop, on_progress=lambda progress: None)
    shard.warm_up()
    cache = shard.make_cache()

    def step(tokens: int) -> None:
        output = shard.forward(mx.zeros((1, tokens), mx.int32), None, cache)
        mx.eval(output.arrays(), cache.arrays())

    tokens = SHORT_CHUNK_TOKENS
    chunk_s, _ = _shortest(lambda: step(SHORT_CHUNK_TOKENS), 0.0, 3)
    if chunk_s < PATIENCE_S:
        tokens = CACHE_STEP_TOKENS
        chunk_s, _ = _shortest(lambda: step(CACHE_STEP_TOKENS), 0.0, 3)
    token_s, cores = _shortest(lambda: step(1), DECODE_S, 8)
    layers = model.layers[:stop]
    whole = stop == model.layer_count
    macs = sum(layer.token_macs for layer in layers) + (model.head_macs if whole else 0)
    read_bytes = sum(layer.read_bytes(1) for layer in layers) + (model.output_bytes if whole else 0)
    return Speed(read_bytes / token_s, 2 * macs * tokens / chunk_s, cores)


def sample_stop(model: ModelFacts) -> int:
    """The first cut that leaves enough layers before it to measure, else the last one, else the whole model."""
    size = 0
    for layer in model.layers:
        size += layer.weight_bytes
        if size >= SAMPLE_BYTES and layer.index + 1 in model.legal_cuts:
            return layer.index + 1
    return model.legal_cuts[-1] if model.legal_cuts else model.layer_count


def _shortest(work: Callable[[], None], at_least_s: float, times: int) -> tuple[float, float]:
    """The fewest seconds of one call of `work` and the cores it kept busy, over `times` calls and `at_least_s`."""
    taken: list[float] = []
    started, cpu_started = time.perf_counter(), time.process_time()
    while len(taken) < times or time.perf_counter() - started < at_least_s:
        before = time.perf_counter()
        work()
        taken.append(time.perf_counter() - before)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    return min(taken), max(1.0, cpu / wall)
