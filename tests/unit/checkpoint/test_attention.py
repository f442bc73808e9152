"""Which layers' attention scores are held in memory, seen in an unevaluated pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxctl.checkpoint import read_model_facts
from tests.tiny_models import write_checkpoint

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("architecture", "changes", "heads", "is_fusable"),
    [
        ("qwen3", {"head_dim": 64}, 4, True),
        ("qwen3", {"head_dim": 128}, 4, True),
        ("qwen3", {"head_dim": 256}, 4, False),
        ("deepseek_v3", {}, 2 * 4, False),
    ],
)
def test_scores_are_held_for_each_head_and_each_head_s_bias(
    architecture: str, changes: dict[str, Any], heads: int, is_fusable: bool, tmp_path: Path
) -> None:
    model = read_model_facts(write_checkpoint(tmp_path / "model", architecture, **changes))
    assert {(layer.score_heads, layer.is_fusable) for layer in model.layers} == {(heads, is_fusable)}


def test_layers_of_fixed_state_hold_no_scores(tmp_path: Path) -> None:
    model = read_model_facts(write_checkpoint(tmp_path / "model", "qwen3_next", head_dim=64))
    assert [layer.score_heads for layer in model.layers] == [0, 0, 0, 4] * 2


def test_watching_leaves_mlx_s_attention_as_it_was(tmp_path: Path) -> None:
    before = mx.fast.scaled_dot_product_attention
    read_model_facts(write_checkpoint(tmp_path / "model", "qwen3"))
    assert mx.fast.scaled_dot_product_attention is before


def test_a_layer_s_width_is_what_comes_out_of_its_matrices(tmp_path: Path) -> None:
    model = read_model_facts(write_checkpoint(tmp_path / "model", "qwen3"))
    queries, keys, hidden, inner = 4 * 16, 2 * 16, 64, 128
    assert model.layers[0].token_width == queries + 2 * keys + hidden + 2 * inner + hidden


def test_of_experts_those_that_a_token_takes_count_towards_the_width(tmp_path: Path) -> None:
    model = read_model_facts(write_checkpoint(tmp_path / "model", "qwen3_moe"))
    queries, keys, hidden, inner, experts, chosen = 4 * 16, 2 * 16, 64, 32, 4, 2
    assert model.layers[0].token_width == queries + 2 * keys + hidden + experts + chosen * (2 * inner + hidden)
