"""Models that the CPU backend cannot compute are refused before they are loaded."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import bitnet

from mlxctl.errors import CheckpointError
from mlxctl.sharding import load_model, unsupported_here
from tests.tiny_models import CONFIGS, random_model, write_checkpoint, write_weights

pytestmark = [pytest.mark.unit, pytest.mark.skipif(mx.default_device() != mx.cpu, reason="the limits of a CPU")]


def config_of(path: Path) -> dict[str, object]:
    config: dict[str, object] = json.loads((path / "config.json").read_text())
    return config


@pytest.mark.parametrize("architecture", ["llama", "qwen3_moe"])
def test_float32_models_are_supported(tmp_path: Path, architecture: str) -> None:
    write_checkpoint(tmp_path, architecture)
    assert unsupported_here(config_of(tmp_path), tmp_path) is None


def test_experts_in_bfloat16_are_refused(tmp_path: Path) -> None:
    config = {"model_type": "qwen3_moe", **CONFIGS["qwen3_moe"]}
    model = random_model(config)
    model.set_dtype(mx.bfloat16)
    write_weights(tmp_path, config, dict(tree_flatten(model.parameters())))
    assert "experts in bfloat16" in (unsupported_here(config, tmp_path) or "")
    with pytest.raises(CheckpointError, match="experts in bfloat16"):
        load_model(tmp_path, 0, 4, on_progress=lambda _: None)


def test_a_model_of_metal_kernels_is_refused(tmp_path: Path) -> None:
    config = {"model_type": "bitnet", **CONFIGS["llama"]}
    model = bitnet.Model(bitnet.ModelArgs.from_dict(config))
    write_weights(tmp_path, config, dict(tree_flatten(model.parameters())))
    assert "Metal" in (unsupported_here(config, tmp_path) or "")
    with pytest.raises(CheckpointError, match="Metal"):
        load_model(tmp_path, 0, 4, on_progress=lambda _: None)
