"""Facts read from headers and configurations are what the loaded model then really holds."""

from __future__ import annotations

import gc
import json
import threading
import time
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache

from mlxctl.checkpoint import read_model_facts
from mlxctl.errors import CheckpointError
from mlxctl.facts import ModelFacts
from mlxctl.plan.kv import with_planned_caches
from mlxctl.plan.memory import StageMemory
from mlxctl.sharding.architectures import own_cases
from mlxctl.sharding.caches import cache_arrays
from mlxctl.sharding.load import load_model
from mlxctl.sharding.model import build_model
from tests.plans import a_profile
from tests.tiny_models import CONFIGS, LAYERS, VOCABULARY, write_checkpoint

pytestmark = pytest.mark.unit

DEEPSEEK_V3: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "n_group": 8,
    "topk_group": 4,
    "first_k_dense_replace": 3,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "max_position_embeddings": 163840,
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
    "quantization": {"group_size": 64, "bits": 4},
}
ROTATING = ("gemma3_text", "gpt_oss")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: write_checkpoint(folder / name, name) for name in CONFIGS}


def held_by_caches(path: Path, tokens: int) -> int:
    """Bytes that the whole model's caches hold after `tokens` tokens, the prompt in chunks of 256, then one by one."""
    model = build_model(path).model
    caches = make_prompt_cache(model)
    given = 0
    while given < tokens:
        chunk = max(1, min(256, tokens - 1 - given))
        mx.eval(model(mx.zeros((1, chunk), mx.int32), cache=caches))
        given += chunk
    return sum(array.nbytes for cache in caches for array in cache_arrays(cache))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_layers_weigh_what_they_hold(architecture: str, checkpoints: dict[str, Path]) -> None:
    facts = read_model_facts(checkpoints[architecture])
    layers = build_model(checkpoints[architecture]).model.layers
    held = [sum(array.nbytes for _, array in tree_flatten(layer.parameters())) for layer in layers]
    assert [layer.weight_bytes for layer in facts.layers] == held


@pytest.mark.parametrize("architecture", CONFIGS)
def test_all_weights_are_counted_once(architecture: str, checkpoints: dict[str, Path]) -> None:
    model = build_model(checkpoints[architecture]).model
    held = sum(array.nbytes for _, array in tree_flatten(model.parameters()))
    assert read_model_facts(checkpoints[architecture]).weight_bytes == held


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("tokens", [1, 255, 300])
def test_caches_grow_as_the_facts_say(architecture: str, tokens: int, checkpoints: dict[str, Path]) -> None:
    facts = read_model_facts(checkpoints[architecture])
    told = sum(layer.kv_bytes(tokens) for layer in facts.layers)
    held = held_by_caches(checkpoints[architecture], tokens)
    if architecture in ROTATING:  # what a prefill chunk adds to the window is let go while decoding
        assert held <= told
    else:
        assert held == told


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_loaded_stage_holds_what_was_planned(architecture: str, checkpoints: dict[str, Path]) -> None:
    facts = read_model_facts(checkpoints[architecture])
    memory = StageMemory(facts, 256, 1, fused_attention=False)
    cut = facts.legal_cuts[len(facts.legal_cuts) // 2]
    for start, stop in ((0, cut), (cut, LAYERS)):
        gc.collect()
        mx.clear_cache()
        before = mx.get_active_memory()
        shard = load_model(checkpoints[architecture], start, stop, on_progress=lambda progress: None)
        shard.warm_up()
        gc.collect()
        mx.clear_cache()
        assert mx.get_active_memory() - before == pytest.approx(memory.of(start, stop).weights, rel=0.05)
        del shard


@pytest.mark.parametrize("kv_bits", [None, 8])
def test_one_sequence_s_caches_take_the_copies_planned_while_they_grow(
    kv_bits: Literal[8] | None, tmp_path: Path
) -> None:
    heads: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64}
    path = write_checkpoint(tmp_path / "model", "llama", hidden_size=32, intermediate_size=32, **heads)
    facts = with_planned_caches(a_profile(["a"], kv_bits=kv_bits), read_model_facts(path))
    planned = StageMemory(facts, 1024, 1, fused_attention=False).of(0, LAYERS)
    shard = load_model(path, 0, LAYERS, on_progress=lambda progress: None)
    shard.warm_up()
    of_a_token, most = 1 << 18, 0
    for _ in range(8):  # buffers are freed a moment earlier or later: planned is for the worst
        cache = shard.make_cache()
        if kv_bits is not None:
            cache.quantize(kv_bits, 64)
        gc.collect()
        mx.clear_cache()
        before = mx.get_active_memory()
        for tokens in (256, 256, 256, 1):
            mx.reset_peak_memory()
            output = shard.forward(mx.zeros((1, tokens), mx.int32), None, cache)
            mx.eval(output.arrays(), cache.arrays())
            del output
        assert cache.nbytes == planned.kv
        most = max(most, mx.get_peak_memory() - before - planned.kv)
        if most + of_a_token >= planned.copies:
            break
        del cache
    assert planned.copies <= most + of_a_token <= planned.copies + 2 * of_a_token


def test_a_tied_embedding_is_found(checkpoints: dict[str, Path]) -> None:
    facts = read_model_facts(checkpoints["llama"])
    assert (facts.tied, facts.embedding_bytes, facts.head_bytes) == (True, VOCABULARY * 64 * 4, 0)


def test_a_head_of_its_own_is_found(checkpoints: dict[str, Path]) -> None:
    facts = read_model_facts(checkpoints["qwen3"])
    assert (facts.tied, facts.embedding_bytes, facts.head_bytes) == (False, VOCABULARY * 64 * 4, VOCABULARY * 64 * 4)
    assert (facts.other_first_bytes, facts.other_last_bytes, facts.other_every_bytes) == (0, 64 * 4, 0)


def test_experts_are_told_from_what_every_token_reads(checkpoints: dict[str, Path]) -> None:
    layer = read_model_facts(checkpoints["qwen3_moe"]).layers[0]
    assert (layer.experts, layer.experts_per_token) == (4, 2)
    assert layer.expert_bytes == 4 * 3 * 64 * 32 * 4
    assert layer.read_bytes(1) == layer.weight_bytes - layer.expert_bytes // 2


def test_a_dense_layer_among_sparse_ones_has_no_experts(checkpoints: dict[str, Path]) -> None:
    layers = read_model_facts(checkpoints["deepseek_v3"]).layers
    assert layers[0].experts == layers[0].expert_bytes == 0
    assert layers[1].experts == 4


def test_sliding_windows_cap_the_cache(checkpoints: dict[str, Path]) -> None:
    caps = [cache.cap_tokens for layer in read_model_facts(checkpoints["gpt_oss"]).layers for cache in layer.caches]
    assert caps == [8, None] * (LAYERS // 2)


def test_recurrent_state_is_of_fixed_size(checkpoints: dict[str, Path]) -> None:
    layer = read_model_facts(checkpoints["mamba2"]).layers[0]
    assert layer.kv_bytes(1) == layer.kv_bytes(100_000) > 0


NEMOTRON_H: dict[str, Any] = {
    "model_type": "nemotron_h",
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "hybrid_override_pattern": ["M", "-", "*", "-"],
    "max_position_embeddings": 1024,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "attention_bias": False,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "mamba_proj_bias": False,
    "ssm_state_size": 16,
    "conv_kernel": 4,
    "n_groups": 2,
    "mlp_bias": False,
    "layer_norm_epsilon": 1e-5,
    "use_bias": False,
    "use_conv_bias": True,
}


def test_layers_that_attend_to_nothing_hold_no_scores(tmp_path: Path) -> None:
    facts = read_model_facts(write_config(tmp_path, NEMOTRON_H), weights_required=False)
    assert [layer.score_heads for layer in facts.layers] == [0, 0, 4, 0]
    assert facts.is_fusable


def test_per_layer_quantization_is_counted_exactly() -> None:
    facts = read_model_facts("canary")
    assert (facts.quantization, facts.dtype) == ("8-bit g64", "float32")
    header = json.loads((Path(facts.path) / "model.safetensors.index.json").read_text())
    assert facts.weight_bytes == header["metadata"]["total_size"]


def test_the_hash_follows_the_tensors(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    same = write_checkpoint(tmp_path / "same", "qwen3")
    other = write_checkpoint(tmp_path / "other", "qwen3", intermediate_size=192)
    first = read_model_facts(checkpoints["qwen3"]).hash
    assert read_model_facts(same).hash == first
    assert read_model_facts(other).hash != first


def test_expert_tensors_of_their_own_are_counted_as_they_will_be_stacked(tmp_path: Path) -> None:
    stacked = write_checkpoint(tmp_path / "stacked", "qwen3_moe")
    single = write_checkpoint(tmp_path / "single", "qwen3_moe", unstacked=True, files=3)
    assert read_model_facts(single).layers == read_model_facts(stacked).layers


def test_any_thread_may_read_facts() -> None:
    found: list[ModelFacts] = []
    thread = threading.Thread(target=lambda: found.append(read_model_facts("canary")))
    thread.start()
    thread.join()
    assert found == [read_model_facts("canary")]


def test_a_folder_without_weights_is_refused_unless_its_config_will_do(tmp_path: Path) -> None:
    write_config(tmp_path, {"model_type": "qwen3", **CONFIGS["qwen3"]})
    with pytest.raises(CheckpointError, match="no safetensors files"):
        read_model_facts(tmp_path)
    assert not read_model_facts(tmp_path, weights_required=False).has_weights


def test_a_config_alone_gives_what_the_weights_would(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    config = {"model_type": "qwen3_moe", **CONFIGS["qwen3_moe"], "torch_dtype": "float32"}
    alone = read_model_facts(write_config(tmp_path, config), weights_required=False)
    assert alone.layers == read_model_facts(checkpoints["qwen3_moe"]).layers


def test_a_quantized_config_alone_gives_the_quantized_size(tmp_path: Path) -> None:
    config = {**canary_config(), "torch_dtype": "float32"}
    alone = read_model_facts(write_config(tmp_path, config), weights_required=False)
    assert alone.weight_bytes == read_model_facts("canary").weight_bytes


def test_weights_that_every_layer_reads_are_counted_on_every_stage(tmp_path: Path) -> None:
    config = next(case.config for case in own_cases() if case.name == "gemma3n")
    facts = read_model_facts(
        write_config(tmp_path, {"model_type": "gemma3n", **(config or {})}), weights_required=False
    )
    per_layer_embedding, embedding = 512 * 10 * 16 * 2, 512 * 64 * 2
    assert facts.other_every_bytes > per_layer_embedding + embedding
    assert facts.output_bytes > embedding


def test_671_billion_parameters_are_described_in_about_a_second(tmp_path: Path) -> None:
    started_s = time.process_time()
    facts = read_model_facts(write_config(tmp_path, DEEPSEEK_V3), weights_required=False)
    print(f"facts of DeepSeek-V3: {time.process_time() - started_s:.2f} s of processor time")
    assert facts.layer_count == 61
    assert facts.legal_cuts == tuple(range(1, 61))
    assert {cache.token_bytes for layer in facts.layers for cache in layer.caches} == {(512 + 64) * 2}
    assert [layer.experts for layer in facts.layers] == [0] * 3 + [256] * 58
    assert facts.weight_bytes == pytest.approx(671e9 * 4.5 / 8, rel=0.01)


def test_layers_that_are_called_twice_make_one_piece_with_all_caches(tmp_path: Path) -> None:
    config = {"model_type": "nanbeige", **CONFIGS["qwen3"], "num_hidden_layers": 4, "num_loops": 2}
    facts = read_model_facts(write_config(tmp_path, config), weights_required=False)
    assert facts.legal_cuts == ()
    assert len(facts.illegal_cuts) == 3
    assert sum(cache.token_bytes for cache in facts.stage_caches) > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"{}", "names no model_type"),
        (b'{"model_type": "no_such_model"}', "cannot build the no_such_model model"),
        (b'{"model_type": "qwen3"}', "cannot build the qwen3 model"),
        (b'{"model_type": "qwen3", "model_file": "run_me.py"}', "wants to run its own code"),
    ],
)
def test_a_broken_config_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_model_facts(tmp_path, weights_required=False)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "cut", "qwen3")
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a sound safetensors file: .*truncated"):
        read_model_facts(path)


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def canary_config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((Path(read_model_facts("canary").path) / "config.json").read_text())
    return config


def test_an_absurd_number_of_layers_is_not_built(tmp_path: Path) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 10**7}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="claims 10000000 layers, more than the 2000 allowed"):
        read_model_facts(tmp_path, weights_required=False)
