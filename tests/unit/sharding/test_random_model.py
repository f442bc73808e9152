"""Well-known shapes with random weights: a folder anybody makes alike, weights only where they run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mlxctl import paths
from mlxctl.checkpoint import read_model_facts, resolve_model
from mlxctl.errors import CheckpointError
from mlxctl.sharding.load import load_model
from mlxctl.sharding.model import build_model
from mlxctl.sharding.random_model import is_random_name, presets, random_folder, random_name
from mlxctl.sharding.random_weights import RANDOM, random_weights
from mlxctl.tokenizer import Tokenizer

pytestmark = pytest.mark.unit

NAME = "random:canary-8bit"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(paths.HOME_VARIABLE, str(tmp_path))


@pytest.mark.parametrize(("name", "gigabytes"), [("qwen3-8b-4bit", 4.6), ("llama-3.3-70b-4bit", 39.7)])
def test_a_preset_is_as_large_as_the_model(name: str, gigabytes: float) -> None:
    assert read_model_facts(f"random:{name}").weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_every_preset_can_be_planned() -> None:
    facts = [read_model_facts(f"random:{model}-4bit") for model in presets()]
    assert all(each.legal_cuts and each.has_weights for each in facts)


def test_the_name_of_a_folder_is_what_it_was_made_of() -> None:
    assert random_name(random_folder(NAME)) == NAME


def test_another_folder_has_no_such_name(tmp_path: Path) -> None:
    assert random_name(tmp_path) is None


def test_two_machines_make_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {file.name: file.read_bytes() for file in random_folder(NAME).iterdir()}
    monkeypatch.setenv(paths.HOME_VARIABLE, str(tmp_path / "there"))
    assert {file.name: file.read_bytes() for file in random_folder(NAME).iterdir()} == here


def test_a_torn_folder_is_made_again() -> None:
    folder = random_folder(NAME)
    (folder / RANDOM).unlink()
    assert (random_folder(NAME) / RANDOM).is_file()


def test_equal_seeds_draw_equal_weights() -> None:
    folder = random_folder(NAME)
    first, second = random_weights(folder), random_weights(folder)
    name = "model.layers.0.mlp.down_proj.weight"
    assert mx.array_equal(first[name], second[name])


def test_different_tensors_differ() -> None:
    weights = random_weights(random_folder(NAME))
    one, other = (weights[f"model.layers.{layer}.mlp.down_proj.weight"] for layer in (0, 1))
    assert not mx.array_equal(one, other)


def test_quantized_weights_are_spread_like_those_of_a_trained_model() -> None:
    model = build_model(random_folder(NAME)).model
    layer = model.layers[0].mlp.down_proj
    whole = mx.dequantize(layer.weight, layer.scales, layer.biases, layer.group_size, layer.bits)
    assert mx.std(whole).item() == pytest.approx(1 / math.sqrt(whole.shape[1]), rel=0.02)
    assert abs(mx.mean(whole).item()) < 0.001


def test_a_stage_draws_its_own_layers_only() -> None:
    shard = load_model(random_folder(NAME), 2, 4, on_progress=lambda progress: None)
    own = sum(array.nbytes for _, array in tree_flatten(shard.model.layers[2].parameters()))
    assert mx.get_active_memory() < 8 * own


def test_every_token_has_a_text() -> None:
    tokenizer = Tokenizer.load(random_folder("random:qwen3-0.6b-4bit"))
    assert all(tokenizer.decode([token]) for token in (9, 3000, 151_935))


def test_the_name_in_a_profile_is_resolved() -> None:
    folder = resolve_model(NAME)
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 256
    assert is_random_name(NAME)


@pytest.mark.parametrize("name", ["random:qwen3-8b-4bits", "random:qwen3-8b", "random:nonsense-4bit"])
def test_an_unknown_shape_gets_a_hint(name: str) -> None:
    with pytest.raises(CheckpointError, match="known by its shape") as caught:
        resolve_model(name)
    assert caught.value.hint
