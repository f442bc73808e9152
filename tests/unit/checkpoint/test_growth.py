"""How caches of every kind grow, told from what they hold after a few tokens."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    ChunkedKVCache,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
)

from mlxctl.checkpoint.growth import cache_growth
from mlxctl.facts import CacheGrowth

pytestmark = pytest.mark.unit

TOKENS = 3
ROW_BYTES = 2 * 64 * (4 + 4)  # keys and values, two heads of 64 in float32


def filled(cache: Any) -> Any:
    rows = mx.zeros((1, 2, TOKENS, 64))
    cache.update_and_fetch(rows, rows)
    return cache


def test_a_plain_cache_grows_by_its_rows() -> None:
    assert cache_growth(filled(KVCache()), TOKENS) == (CacheGrowth("KVCache", ROW_BYTES, heads=2, head_sizes=(64, 64)),)


@pytest.mark.parametrize("cache", [RotatingKVCache(max_size=8), ChunkedKVCache(8)])
def test_a_window_is_a_cap(cache: Any) -> None:
    assert cache_growth(filled(cache), TOKENS) == (CacheGrowth(type(cache).__name__, ROW_BYTES, 0, 8),)


def test_a_quantized_cache_counts_scales_and_biases() -> None:
    (growth,) = cache_growth(filled(QuantizedKVCache(group_size=64, bits=8)), TOKENS)
    assert growth.token_bytes == 2 * 2 * (64 + 4 + 4)


def test_state_has_a_fixed_size() -> None:
    cache = ArraysCache(2)
    cache[0], cache[1] = mx.zeros((1, 3, 5)), mx.zeros((1, 7))
    assert cache_growth(cache, TOKENS) == (CacheGrowth("ArraysCache", 0, (15 + 7) * 4),)


def test_a_list_of_caches_grows_part_by_part() -> None:
    kinds = [growth.kind for growth in cache_growth(CacheList(filled(KVCache()), filled(RotatingKVCache(8))), TOKENS)]
    assert kinds == ["KVCache", "RotatingKVCache"]


def test_an_empty_cache_does_not_grow() -> None:
    assert cache_growth(KVCache(), TOKENS) == ()


def test_what_is_in_a_cache_of_no_known_kind_is_taken_to_repeat_for_each_token() -> None:
    class OwnCache:
        def __init__(self) -> None:
            self.rows = mx.zeros((1, TOKENS, 10))

        state = property(lambda self: self.rows)

        def is_trimmable(self) -> bool:
            return False

    assert cache_growth(OwnCache(), TOKENS) == (CacheGrowth("OwnCache", 40),)
