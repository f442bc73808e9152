"""What a stage needs, and what a node may give."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlxctl.coordinator.scheduler import CHUNKS_PER_STAGE
from mlxctl.facts import CHUNK_TOKENS, CacheGrowth, ModelFacts
from mlxctl.plan.kv import QUANTIZED
from mlxctl.plan.memory import (
    FRAME_COPIES,
    FRAMES_PER_STAGE,
    GROWN_COPIES,
    JOINED_COPIES,
    MATRIX_COPIES,
    PROCESS_BYTES,
    QUANTIZED_COPIES,
    StageMemory,
    memory_pools,
)
from mlxctl.profile import Node
from tests.plans import GIB, MIB, a_model, a_node, a_profile

pytestmark = pytest.mark.unit


def test_the_embedding_lies_on_the_first_stage_and_the_head_on_the_last() -> None:
    memory = StageMemory(a_model(head_bytes=70 * MIB, other_last_bytes=1), 1024, 1, fused_attention=True)
    assert memory.of(0, 4).weights == 450 * MIB
    assert memory.of(2, 6).weights == 400 * MIB
    assert memory.of(4, 8).weights == 470 * MIB + 1


def test_a_tied_embedding_lies_on_both_ends_but_once_where_they_are_one() -> None:
    memory = StageMemory(a_model(tied=True, head_bytes=0), 1024, 1, fused_attention=True)
    assert memory.of(0, 4).weights == memory.of(4, 8).weights == 450 * MIB
    assert memory.of(0, 8).weights == 850 * MIB


def test_what_every_stage_reads_is_counted_on_every_stage() -> None:
    memory = StageMemory(a_model(other_every_bytes=9), 1024, 1, fused_attention=True)
    assert memory.of(2, 4).weights == 200 * MIB + 9


def test_caches_count_for_every_sequence_at_its_full_context() -> None:
    memory = StageMemory(a_model(token_bytes=1000), 1024, 3, fused_attention=True)
    assert memory.of(0, 2).kv == 2 * 3 * 1024 * 1000


@pytest.mark.parametrize("fused", [False, True])
def test_sliding_windows_count_with_the_chunk_that_goes_through_them(fused: bool) -> None:
    window = (CacheGrowth("RotatingKVCache", 10, cap_tokens=512),)
    model = replace(a_model(), layers=tuple(replace(layer, caches=window) for layer in a_model().layers))
    assert StageMemory(model, 8192, 2, fused).of(0, 1).kv == 2 * 10 * (512 + CHUNK_TOKENS[fused] - 1)


def test_caches_that_no_layer_owns_are_on_every_stage() -> None:
    model = a_model(token_bytes=1000, stage_caches=(CacheGrowth("ArraysCache", 0, 50),))
    assert StageMemory(model, 256, 2, fused_attention=True).of(3, 4).kv == 2 * (256 * 1000 + 50)


def test_one_layer_s_caches_are_held_twice_more_while_sequences_join_a_lane() -> None:
    memory = StageMemory(a_model(token_bytes=1000), 1024, 4, fused_attention=True)
    assert memory.of(0, 8).copies == JOINED_COPIES * 4 * 1024 * 1000


@pytest.mark.parametrize(("concurrency", "batchable"), [(1, True), (1, False), (4, False)])
def test_where_no_sequences_can_join_the_caches_of_one_grow(concurrency: int, batchable: bool) -> None:
    model = a_model(token_bytes=1000, is_batchable=batchable)
    memory = StageMemory(model, 1024, concurrency, fused_attention=True)
    assert memory.of(0, 8).copies == GROWN_COPIES * 1024 * 1000


def test_quantized_caches_are_copied_once_more() -> None:
    caches = (CacheGrowth(QUANTIZED, 1000),)
    layers = tuple(replace(layer, caches=caches) for layer in a_model().layers)
    memory = StageMemory(a_model(layers=8, is_batchable=False), 1024, 4, fused_attention=False)
    packed = StageMemory(replace(a_model(is_batchable=False), layers=layers), 1024, 4, fused_attention=False)
    assert memory.of(0, 8).copies == GROWN_COPIES * 1024 * 1024
    assert packed.of(0, 8).copies == (GROWN_COPIES + QUANTIZED_COPIES) * 1024 * 1000


def test_what_comes_out_of_the_widest_layer_s_matrices_is_held() -> None:
    plain = a_model(layers=2)
    wide = replace(plain, layers=(plain.layers[0], replace(plain.layers[1], token_width=5000)))
    held = [StageMemory(model, 1024, 1, fused_attention=True).of(0, 2).activations for model in (plain, wide)]
    assert held[1] - held[0] == CHUNK_TOKENS[True] * MATRIX_COPIES * 5000 * 2


def test_more_sequences_than_a_chunk_has_tokens_are_computed_at_once() -> None:
    model = a_model(token_bytes=0, vocab_size=0)
    held = [StageMemory(model, 256, count, fused_attention=False).of(0, 8).activations for count in (256, 512)]
    assert held[1] == 2 * held[0]


def test_chunks_under_way_may_all_wait_at_one_stage_but_not_where_there_is_one() -> None:
    model = a_model(boundary_token_bytes=1000)
    memory = StageMemory(model, 1024, 1, fused_attention=True, stages=3)
    none = StageMemory(replace(model, boundary_token_bytes=0), 1024, 1, fused_attention=True, stages=3)
    frames = FRAME_COPIES * FRAMES_PER_STAGE * 3 * CHUNK_TOKENS[True] * 1000
    assert memory.of(0, 4).activations - none.of(0, 4).activations == frames
    assert memory.of(0, 8) == none.of(0, 8)


def test_as_many_chunks_are_planned_for_as_the_coordinator_keeps_under_way() -> None:
    assert FRAMES_PER_STAGE == CHUNKS_PER_STAGE


def test_logits_are_held_on_the_last_stage() -> None:
    memory = StageMemory(a_model(vocab_size=100_000), 1024, 2, fused_attention=True)
    assert memory.of(4, 8).activations - memory.of(0, 4).activations == 2 * 100_000 * 4 * 4


def with_scores(heads: int, cap_tokens: int | None = None) -> ModelFacts:
    model = a_model()
    caches = (CacheGrowth("KVCache", 0, cap_tokens=cap_tokens),)
    return replace(model, layers=tuple(replace(layer, score_heads=heads, caches=caches) for layer in model.layers))


def test_a_processor_holds_attention_scores_that_a_gpu_does_not() -> None:
    held = [StageMemory(with_scores(heads), 4096, 1, False).of(0, 8).activations for heads in (0, 16)]
    assert held[1] - held[0] == 16 * 256 * 4096 * 2
    held = [StageMemory(with_scores(heads), 4096, 1, True).of(0, 8).activations for heads in (0, 16)]
    assert held[1] == held[0]


def test_scores_reach_no_further_than_a_layer_s_window() -> None:
    held = [StageMemory(with_scores(16, cap), 4096, 1, False).of(0, 8).activations for cap in (None, 512)]
    assert held[0] - held[1] == (16 + 1) * 256 * (4096 - 512 - 256) * 2


def test_a_stage_without_anything_still_needs_its_process() -> None:
    memory = StageMemory(a_model(layer_bytes=0, token_bytes=0), 256, 1, fused_attention=True)
    nothing = memory.of(3, 4)
    assert nothing.weights == nothing.kv == 0
    assert nothing.headroom > PROCESS_BYTES


def test_nodes_of_one_machine_share_what_it_has() -> None:
    nodes = [a_node("a", host_id="here"), a_node("b", host_id="here"), a_node("c")]
    pools = memory_pools(a_profile(["a", "b", "c"]), nodes)
    assert [(pool.nodes, pool.bytes) for pool in pools] == [(("a", "b"), 16 * GIB), (("c",), 16 * GIB)]


def test_a_node_with_its_own_memory_does_not_share() -> None:
    nodes = [a_node("a", host_id="here"), a_node("b", host_id="here")]
    profile = a_profile(["a", "b"])
    own = Node(name="a", host="localhost", memory_bytes=8 * GIB, memory_reserve_bytes=GIB)
    pools = memory_pools(profile.model_copy(update={"nodes": (own, profile.nodes[1])}), nodes)
    assert [(pool.nodes, pool.bytes) for pool in pools] == [(("a",), 7 * GIB), (("b",), 16 * GIB)]


@pytest.mark.parametrize(
    ("changes", "reserve", "budget", "reason"),
    [
        ({}, 0, 16 * GIB, "all but the reserve"),
        ({}, 4 * GIB, 12 * GIB, "all but the reserve"),
        ({"available_bytes": 5 * GIB}, 4 * GIB, 5 * GIB, "what is free now"),
        ({"wired_limit_bytes": 10 * GIB}, 4 * GIB, 10 * GIB, "what the GPU may wire"),
        ({}, 20 * GIB, 0, "all but the reserve"),
    ],
)
def test_a_machine_gives_the_least_of_its_limits(
    changes: dict[str, int], reserve: int, budget: int, reason: str
) -> None:
    profile = a_profile(["a"])
    node = Node(name="a", host="a.local", memory_reserve_bytes=reserve)
    (pool,) = memory_pools(profile.model_copy(update={"nodes": (node,)}), [a_node("a", **changes)])
    assert (pool.bytes, pool.reason) == (budget, reason)
