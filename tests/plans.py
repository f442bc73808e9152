"""Makers of models, nodes and profiles as plain facts, for the tests of everything that plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxctl.facts import CacheGrowth, LayerFacts, ModelFacts, NodeFacts
from mlxctl.profile import Node, Placement, Profile

MIB = 1 << 20
GIB = 1 << 30


def a_model(
    layers: int = 8,
    layer_bytes: int | Sequence[int] = 100 * MIB,
    token_bytes: int = 1024,
    cuts: Sequence[int] | None = None,
    **changes: Any,
) -> ModelFacts:
    """`layers` equal layers (or as many as `layer_bytes` are given), a 50 MiB embedding and head."""
    sizes = [layer_bytes] * layers if isinstance(layer_bytes, int) else list(layer_bytes)
    cache = (CacheGrowth("KVCache", token_bytes),)
    settings: dict[str, Any] = {
        "name": "made-up",
        "path": "/nowhere",
        "revision": None,
        "hash": "0" * 64,
        "architecture": "llama",
        "layers": tuple(LayerFacts(i, size, cache, token_macs=size) for i, size in enumerate(sizes)),
        "embedding_bytes": 50 * MIB,
        "head_bytes": 50 * MIB,
        "tied": False,
        "legal_cuts": tuple(range(1, len(sizes)) if cuts is None else cuts),
        "context_limit": 8192,
        "vocab_size": 1000,
        "hidden_size": 64,
        "dtype": "bfloat16",
        "quantization": "none",
        "boundary_token_bytes": 128,
    }
    settings |= changes
    output_bytes = settings["embedding_bytes"] if settings["tied"] else settings["head_bytes"]
    return ModelFacts(**({"output_bytes": output_bytes} | settings))


def a_node(name: str, memory_bytes: int = 16 * GIB, bandwidth: float | None = 100e9, **changes: Any) -> NodeFacts:
    """A Mac of its own with all its memory free and no limit on what the GPU may wire."""
    settings: dict[str, Any] = {
        "name": name,
        "host_id": name,
        "chip": "M4",
        "os": "macOS",
        "memory_bytes": memory_bytes,
        "available_bytes": memory_bytes,
        "bandwidth_bytes_per_s": bandwidth,
    }
    return NodeFacts(**(settings | changes))


def a_profile(names: Sequence[str], pins: Mapping[str, int] | None = None, **changes: Any) -> Profile:
    """Nodes of these names, each a host of its own, nothing reserved."""
    nodes = tuple(Node(name=name, host=f"{name}.local") for name in names)
    settings: dict[str, Any] = {"concurrency": 1, "context": 1024, "nodes": nodes}
    return Profile(name="made-up", placement=Placement(layers=dict(pins or {})), **(settings | changes))
