"""What facts say of themselves."""

from __future__ import annotations

import mlx.core as mx
import pytest
from mlx_lm.models.cache import RotatingKVCache

from mlxctl.facts import CacheGrowth, LayerFacts
from tests.plans import MIB, a_model

pytestmark = pytest.mark.unit


def test_a_cache_grows_in_steps() -> None:
    cache = CacheGrowth("KVCache", token_bytes=10)
    assert [cache.bytes(tokens) for tokens in (0, 1, 256, 257)] == [0, 2560, 2560, 5120]


def test_a_capped_cache_stops_one_chunk_beyond_its_window() -> None:
    cache = CacheGrowth("RotatingKVCache", token_bytes=10, cap_tokens=128)
    assert cache.bytes(100_000, chunk=256) == 10 * (128 + 255)
    assert cache.bytes(1, chunk=256) == 10 * 256


@pytest.mark.parametrize("chunk", [256, 1024])
def test_a_sliding_window_holds_no_more_than_told_while_a_prompt_is_computed(chunk: int) -> None:
    cache, told = RotatingKVCache(512), CacheGrowth("RotatingKVCache", token_bytes=2 * 4, cap_tokens=512)
    for given in range(chunk, 4097, chunk):
        cache.update_and_fetch(mx.zeros((1, 1, chunk, 1)), mx.zeros((1, 1, chunk, 1)))
        assert cache.nbytes <= told.bytes(given, chunk=chunk)
    assert cache.nbytes == told.bytes(4096, chunk=chunk)


def test_state_of_fixed_size_does_not_grow() -> None:
    cache = CacheGrowth("ArraysCache", token_bytes=0, fixed_bytes=77)
    assert cache.bytes(1) == cache.bytes(10_000) == 77


def test_a_dense_layer_is_read_whole_by_every_step() -> None:
    assert LayerFacts(0, 1000).read_bytes(1) == LayerFacts(0, 1000).read_bytes(64) == 1000


def test_one_token_reads_only_its_experts() -> None:
    layer = LayerFacts(0, 1000, expert_bytes=800, experts=8, experts_per_token=2)
    assert layer.read_bytes(1) == 200 + 200
    assert layer.read_bytes(1) < layer.read_bytes(4) < layer.read_bytes(1000) == 1000


def test_a_model_s_weights_are_counted_once() -> None:
    model = a_model(layers=4, layer_bytes=100 * MIB, other_last_bytes=3, other_every_bytes=5)
    assert model.weight_bytes == 500 * MIB + 8
