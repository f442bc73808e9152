"""Tiny random checkpoints in float32, made by the tests that load them. Eight layers, so that eight stages exist."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_lm.utils import _get_classes

VOCABULARY = 512
LAYERS = 8

_COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 1000,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
_EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**_COMMON, "tie_word_embeddings": True},
    "qwen3": _COMMON,
    "qwen3_moe": {**_COMMON, **_EXPERTS},
    "gemma3_text": {**_COMMON, "query_pre_attn_scalar": 16, "sliding_window": 8, "sliding_window_pattern": 3},
    "gpt_oss": {
        **_COMMON,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "intermediate_size": 64,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
    },
    "deepseek_v3": {
        **_COMMON,
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "moe_intermediate_size": 32,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
    },
    "qwen3_next": {
        **_COMMON,
        **_EXPERTS,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
        "shared_expert_intermediate_size": 32,
        "partial_rotary_factor": 0.5,
        "full_attention_interval": 4,
    },
    "mamba2": {
        **_COMMON,
        "num_heads": 8,
        "state_size": 16,
        "layer_norm_epsilon": 1e-5,
        "conv_kernel": 4,
        "n_groups": 2,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_limit": [0.01, 10.0],
        "time_step_rank": "auto",
    },
}


def random_model(config: Mapping[str, Any], seed: int = 0) -> Any:
    """The mlx-lm model of `config` with random float32 weights, large enough that its tokens vary."""
    model_class, args_class = _get_classes(dict(config))
    model = model_class(args_class.from_dict(dict(config)))
    mx.random.seed(seed)
    model.update(tree_map(_random, model.parameters()))
    mx.eval(model.parameters())
    return model


def _random(old: mx.array) -> mx.array:
    scale = 0.25 if old.ndim > 1 else 0.02
    return mx.random.normal(old.shape) * scale + (0 if old.ndim > 1 else 1)


def write_checkpoint(
    folder: Path, architecture: str, *, files: int = 1, unstacked: bool = False, **changes: Any
) -> Path:
    """Write a random model of `architecture` in `files` safetensors files; `unstacked` gives each expert its tensor."""
    config = {"model_type": architecture, **CONFIGS[architecture], **changes}
    weights = dict(tree_flatten(random_model(config).parameters()))
    if unstacked:
        weights = _unstacked(weights)
    return write_weights(folder, config, weights, files=files)


def write_weights(folder: Path, config: Mapping[str, Any], weights: Mapping[str, mx.array], *, files: int = 1) -> Path:
    """Write `config` and `weights`, layer after layer, in `files` safetensors files with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    names = sorted(weights, key=lambda name: (layer_of(name, before=-1), name))
    weight_map = {}
    for number in range(files):
        file = f"model-{number + 1:05}-of-{files:05}.safetensors" if files > 1 else "model.safetensors"
        part = names[number * len(names) // files : (number + 1) * len(names) // files]
        mx.save_safetensors(str(folder / file), {name: weights[name] for name in part}, {"format": "mlx"})
        weight_map.update(dict.fromkeys(part, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def layer_of(tensor: str, *, before: int) -> int:
    """The layer a tensor's name belongs to; `before` for embedding, norm and head."""
    found = re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.", tensor)
    return int(found[1]) if found else before


def _unstacked(weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
    flat: dict[str, mx.array] = {}
    for name, array in weights.items():
        if ".switch_mlp." in name:
            experts = {name.replace("switch_mlp", f"experts.{index}"): part for index, part in enumerate(array)}
            flat.update(experts)
        else:
            flat[name] = array
    return flat
