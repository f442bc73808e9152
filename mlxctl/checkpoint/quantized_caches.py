"""Whether a model computes with quantized keys and values: one unevaluated token says. Called by model_facts."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models import cache as mlx_cache

from mlxctl.sharding.caches import kind

BITS, GROUP_SIZE = 8, 32
"""The width that suits most heads; what a profile asks for is checked against each cache's own heads."""


def quantized_cache_fault(model: Any) -> str | None:
    """Why `kv_bits` cannot be had with `model`; None if it can. Only mlx-lm's plain KVCache has a quantized form."""
    slots = mlx_cache.make_prompt_cache(model)
    if other := next((slot for slot in slots if type(slot) is not mlx_cache.KVCache), None):
        return f"its caches of kind {kind(other)} have no quantized form"
    try:
        tokens = mx.zeros((1, 1), mx.int32)
        model(tokens, cache=[slot.to_quantized(group_size=GROUP_SIZE, bits=BITS) for slot in slots])
    except Exception as error:  # whatever a model makes of three arrays where it expects one
        return f"its attention does not compute with quantized keys ({' '.join(str(error).split())[:120]})"
    return None
