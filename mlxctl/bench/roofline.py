"""The speed that memory bandwidth alone would allow: bytes a step must read, over bytes a second. Pure; for expect.

Weights are read once a step, caches once a row; nothing else takes time but the hops between stages. Sequences are
spread over one lane per stage, which is the best that a pipeline can do with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mlxctl.facts import ModelFacts, NodeFacts
from mlxctl.plan import Stage


def read_bytes(model: ModelFacts, stage: Stage, rows: int, depth: int) -> int:
    """Bytes that one decode step of `rows` sequences at `depth` must read on `stage`."""
    layers = model.layers[stage.start : stage.stop]
    head = model.output_bytes if stage.stop == model.layer_count else 0
    return sum(layer.read_bytes(rows) + rows * layer.kv_bytes(depth) for layer in layers) + head


def one_stream_tps(
    model: ModelFacts, stages: Sequence[Stage], bandwidth: Mapping[str, float], hop_s: float, depth: int
) -> float:
    """Tokens a second of one sequence: its steps pass all stages in turn. `bandwidth` is in bytes a second by node."""
    reads_s = sum(read_bytes(model, stage, 1, depth) / bandwidth[stage.node] for stage in stages)
    return 1 / (reads_s + hop_s * len(stages))


def aggregate_tps(
    model: ModelFacts,
    stages: Sequence[Stage],
    nodes: Mapping[str, NodeFacts],
    bandwidth: Mapping[str, float],
    hop_s: float,
    depth: int,
    streams: int,
) -> float:
    """Tokens a second of `streams` sequences; stages of one machine share its bandwidth while they run at once."""
    lanes = min(len(stages), streams)
    rows = -(-streams // lanes)
    sharers = Counter(nodes[stage.node].host_id for stage in stages)
    alone = [read_bytes(model, stage, rows, depth) / bandwidth[stage.node] for stage in stages]
    shared = [
        time_s * min(sharers[nodes[stage.node].host_id], lanes) for time_s, stage in zip(alone, stages, strict=True)
    ]
    round_s = max(lanes * max(shared), sum(alone) + hop_s * len(stages))
    return streams / round_s
