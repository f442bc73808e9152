"""Random-weight models for benchmarks: 4-bit with float32 scales, the fast path on CPUs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.qwen3 import Model, ModelArgs

from mlxctl.canary import MODEL_DIR
from tests.tiny_models import write_weights

# About 24 ms a token on one core of a server CPU.
CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "rms_norm_eps": 1e-6,
    "vocab_size": 8192,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
QUANTIZATION = {"group_size": 64, "bits": 4}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
TOKENIZER_VOCABULARY = 2048


def write_qwen3(folder: Path, **changes: Any) -> Path:
    """A qwen3 of CONFIG with `changes`, quantized, weights drawn from a fixed seed."""
    mx.random.seed(0)
    config = {**CONFIG, **changes}
    model = Model(ModelArgs.from_dict(config))
    nn.quantize(model, **QUANTIZATION)
    mx.eval(model.parameters())
    weights = dict(tree_flatten(model.parameters()))
    path = write_weights(folder, {**config, "quantization": QUANTIZATION}, weights)
    assert json.loads((path / "config.json").read_text())["quantization"] == QUANTIZATION
    return path


def write_chatting_qwen3(folder: Path, **changes: Any) -> Path:
    """A qwen3 of CONFIG with `changes` that can be asked over HTTP: with the canary's tokenizer and vocabulary."""
    path = write_qwen3(folder, vocab_size=TOKENIZER_VOCABULARY, **changes)
    for name in TOKENIZER:
        shutil.copyfile(MODEL_DIR / name, path / name)
    return path
