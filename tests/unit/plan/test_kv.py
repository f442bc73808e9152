"""What `kv_bits` makes of caches, against the quantized caches that mlx-lm really makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.models.cache import KVCache

from mlxctl.checkpoint import read_model_facts
from mlxctl.errors import CheckpointError, DoesNotFit
from mlxctl.facts import CacheGrowth, ModelFacts
from mlxctl.plan import make_plan
from mlxctl.plan.kv import is_quantized, quantized, with_planned_caches
from mlxctl.profile import Profile
from tests.plans import GIB, MIB, a_model, a_node, a_profile
from tests.tiny_models import write_checkpoint

pytestmark = pytest.mark.unit


def asking_for(bits: int, group_size: int = 64, **settings: object) -> Profile:
    return a_profile(["a"]).model_copy(update={"kv_bits": bits, "kv_group_size": group_size, **settings})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFacts:
    return read_model_facts(write_checkpoint(tmp_path_factory.mktemp("model"), "qwen3", head_dim=64))


@pytest.mark.parametrize("tokens", [1, 256, 257, 1000])
@pytest.mark.parametrize(("bits", "group_size"), [(8, 64), (4, 64), (8, 32), (4, 128)])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_the_bytes_are_those_of_a_real_cache(tokens: int, bits: int, group_size: int, dtype: mx.Dtype) -> None:
    heads, key, value = 2, 128, 256
    plain = KVCache().to_quantized(group_size=group_size, bits=bits)
    for start in range(0, tokens, 256):
        columns = min(256, tokens - start)
        plain.update_and_fetch(mx.zeros((1, heads, columns, key), dtype), mx.zeros((1, heads, columns, value), dtype))
    held_bytes = sum(array.nbytes for array in (*plain.keys, *plain.values))
    growth = CacheGrowth("KVCache", heads * (key + value) * dtype.size, heads=heads, head_sizes=(key, value))
    assert quantized(growth, bits, group_size).bytes(tokens) == held_bytes


def test_every_layer_of_a_model_gets_what_was_asked_for(model: ModelFacts) -> None:
    packed = with_planned_caches(asking_for(8), model)
    assert is_quantized(packed) and not is_quantized(model)
    assert [layer.kv_bytes(256) for layer in packed.layers] == [256 * 2 * 2 * (64 + 2 * 4)] * 8
    assert with_planned_caches(asking_for(8), packed) == packed


def test_a_profile_that_does_not_ask_changes_nothing(model: ModelFacts) -> None:
    assert with_planned_caches(a_profile(["a"]), model) is model


def test_heads_that_do_not_divide_are_refused(model: ModelFacts) -> None:
    with pytest.raises(CheckpointError, match="heads of 64 numbers do not divide into groups of 128"):
        with_planned_caches(asking_for(8, 128), model)


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("gemma3_text", "RotatingKVCache"), ("mamba2", "ArraysCache"), ("qwen3_next", "ArraysCache")],
)
def test_caches_without_a_quantized_form_are_named(tmp_path: Path, architecture: str, kind: str) -> None:
    facts = read_model_facts(write_checkpoint(tmp_path, architecture))
    with pytest.raises(CheckpointError, match=f"cannot have kv_bits 8: its caches of kind {kind}"):
        with_planned_caches(asking_for(8, 32), facts)


def with_heads(layers: int = 8) -> ModelFacts:
    """A model whose caches are most of what it needs."""
    facts = a_model(layers, layer_bytes=10 * MIB)
    cache = CacheGrowth("KVCache", 64 * 1024, heads=64, head_sizes=(256, 256))
    return replace(facts, layers=tuple(replace(layer, caches=(cache,)) for layer in facts.layers))


PACKED = with_planned_caches(asking_for(8), with_heads())


def test_the_plan_holds_fewer_bytes_and_another_hash() -> None:
    nodes = [a_node("a", 64 * GIB)]
    plain, packed = (make_plan(profile, nodes, with_heads()) for profile in (a_profile(["a"]), asking_for(8)))
    assert packed.stages[0].kv_bytes == plain.stages[0].kv_bytes * (256 + 2 * 4 * 2) // 512
    assert packed.hash != plain.hash


def test_attention_over_quantized_keys_holds_its_scores() -> None:
    nodes = [a_node("a", 64 * GIB)]
    plain, packed = (make_plan(profile, nodes, with_heads()) for profile in (a_profile(["a"]), asking_for(8)))
    grown = [facts.layers[0].kv_bytes(plain.context) for facts in (with_heads(), PACKED)]
    held = [plan.stages[0].activation_bytes - size for plan, size in zip((plain, packed), grown, strict=True)]
    assert (plain.chunk_tokens, packed.chunk_tokens) == (1024, 256)
    assert held[1] / packed.chunk_tokens > held[0] / plain.chunk_tokens


def test_where_it_would_make_a_plan_possible_it_is_suggested() -> None:
    with pytest.raises(DoesNotFit) as caught:
        make_plan(a_profile(["a"], context=8192, concurrency=4), [a_node("a", 14 * GIB)], with_heads())
    assert "kv_bits 8" in str(caught.value.hint)
