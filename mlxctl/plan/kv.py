"""What quantized keys and values (`kv_bits`) make of a model's caches. Pure; called by the planner and by explain."""

from __future__ import annotations

from dataclasses import replace

from mlxctl.errors import CheckpointError
from mlxctl.facts import CacheGrowth, ModelFacts
from mlxctl.profile import Profile

QUANTIZED = "QuantizedKVCache"


def with_planned_caches(profile: Profile, model: ModelFacts) -> ModelFacts:
    """`model` with the caches that `profile` asks for. Raises CheckpointError if it cannot have them."""
    if profile.kv_bits is None or is_quantized(model):
        return model
    if fault := quantization_fault(model, profile.kv_group_size):
        raise CheckpointError(f"{model.name} cannot have kv_bits {profile.kv_bits}: {fault}", hint="leave kv_bits out")
    layers = tuple(
        replace(
            layer,
            caches=tuple(quantized(cache, profile.kv_bits, profile.kv_group_size) for cache in layer.caches),
        )
        for layer in model.layers
    )
    return replace(model, layers=layers, is_batchable=False)  # mlx-lm has no batched form of these


def quantization_fault(model: ModelFacts, group_size: int) -> str | None:
    """Why the caches of `model` cannot be quantized in groups of `group_size`; None if they can."""
    if model.quantized_cache_fault is not None:
        return model.quantized_cache_fault
    caches = [cache for layer in model.layers for cache in layer.caches]
    if other := next((cache.kind for cache in caches if not cache.heads), None):
        return f"its caches of kind {other} have no quantized form"
    sizes = {size for cache in caches for size in cache.head_sizes}
    uneven = next((size for size in sorted(sizes) if size % group_size), None)
    return f"its heads of {uneven} numbers do not divide into groups of {group_size}" if uneven else None


def is_quantized(model: ModelFacts) -> bool:
    """Whether `model` has been given quantized caches already."""
    return any(cache.kind == QUANTIZED for layer in model.layers for cache in layer.caches)


def quantized(cache: CacheGrowth, bits: int, group_size: int) -> CacheGrowth:
    """`cache` with packed rows, and a scale and a bias for each group, in the cache's own dtype."""
    numbers = cache.heads * sum(cache.head_sizes)
    item_bytes = cache.token_bytes // numbers
    packed = sum(size * bits // 8 + 2 * (size // group_size) * item_bytes for size in cache.head_sizes)
    return replace(cache, kind=QUANTIZED, token_bytes=cache.heads * packed)
