"""How each cache slot of a model grows, read off the caches of an unevaluated pass. Called by model_facts."""

from __future__ import annotations

from typing import Any

from mlx_lm.models import cache as mlx_cache

from mlxctl.facts import CacheGrowth
from mlxctl.sharding.caches import cache_arrays


def cache_growth(cache: Any, tokens: int) -> tuple[CacheGrowth, ...]:
    """The growth of `cache`, which has seen `tokens` tokens of one sequence, part by part.

    A cache with keys holds rows of them ahead of its tokens; ArraysCache is state of fixed size; of any other kind
    every byte is taken to be repeated for each token, which is at worst too much.
    """
    if isinstance(cache, mlx_cache.CacheList):
        return tuple(growth for part in cache.caches for growth in cache_growth(part, tokens))
    name, size = type(cache).__name__, sum(array.nbytes for array in cache_arrays(cache))
    if not size:
        return ()
    if isinstance(cache, mlx_cache.ArraysCache):
        return (CacheGrowth(name, 0, size),)
    keys = getattr(cache, "keys", None)
    if keys is None:
        return (CacheGrowth(name, -(-size // tokens)),)
    rows = (keys[0] if isinstance(keys, tuple | list) else keys).shape[2]
    cap = getattr(cache, "max_size", None) or getattr(cache, "chunk_size", None)
    heads, head_sizes = (keys.shape[1], (keys.shape[3], cache.values.shape[3])) if name == "KVCache" else (0, ())
    return (CacheGrowth(name, -(-size // rows), 0, cap, heads, head_sizes),)
