"""What a stage needs, and what a node may give."""

from __future__ import annotations

import pytest

from mlxctl.facts import CHUNK_TOKENS, CacheGrowth
from mlxctl.plan.memory import LIVE_ACTIVATIONS, PROCESS_BYTES, StageMemory, memory_pools
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


def test_caches_that_no_layer_owns_are_on_every_stage() -> None:
    model = a_model(token_bytes=1000, stage_caches=(CacheGrowth("ArraysCache", 0, 50),))
    assert StageMemory(model, 256, 2, fused_attention=True).of(3, 4).kv == 2 * (256 * 1000 + 50)


def test_one_layer_s_cache_may_be_copied_to_grow() -> None:
    small = StageMemory(a_model(token_bytes=0), 1024, 4, fused_attention=True).of(0, 8)
    grown = StageMemory(a_model(token_bytes=1000), 1024, 4, fused_attention=True).of(0, 8)
    assert grown.activations - small.activations == 4 * 1024 * 1000


def test_logits_are_held_on_the_last_stage() -> None:
    memory = StageMemory(a_model(vocab_size=100_000), 1024, 2, fused_attention=True)
    assert memory.of(4, 8).activations - memory.of(0, 4).activations == 2 * 100_000 * 4 * 4


def test_a_processor_holds_attention_scores_that_a_gpu_does_not() -> None:
    model = a_model(attention_heads=16)
    held = [StageMemory(model, 4096, 1, fused).of(0, 8).activations for fused in (False, True)]
    hidden = [CHUNK_TOKENS[fused] * model.hidden_size * 4 * LIVE_ACTIVATIONS for fused in (False, True)]
    assert (held[0] - hidden[0]) - (held[1] - hidden[1]) == 16 * 256 * 4096 * 4


def test_a_stage_without_anything_still_needs_its_process() -> None:
    memory = StageMemory(a_model(layer_bytes=0, token_bytes=0), 256, 1, fused_attention=True)
    assert memory.of(3, 4).headroom == PROCESS_BYTES


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
