"""The model that ships is the one that was evaluated, and is what the documentation says."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import pytest

from mlxctl.canary import MODEL_DIR

pytestmark = pytest.mark.unit

SHA256 = {
    "chat_template.jinja": "995ab7c4cb2a8b35eca06a7bdb2bf7e66e517e9b847828c4492a234fb4c97f64",
    "config.json": "8957ecf99a63b860641cba4067f69f93a80d43621672b05012bd82ee81e87453",
    "generation_config.json": "c11f6ea419e2688edb008bdf2a7b115188221698466e4b09c4c6ea27115321cb",
    "model.safetensors": "f0a3c928a3c06cdce5ca61f7471c44074bf9989351f4f100b3fc23319ec7a49f",
    "model.safetensors.index.json": "ad307e467f06689a296e3df21ec5baac2518f981784f65e147df9463282c0558",
    "tokenizer.json": "3f8072afe2e0650eec96205a886e1ea514427db477c7618f62f3421b7c5c091a",
    "tokenizer_config.json": "806b1906db36f18dec695aebc5901ef77de5f0f69436da181ed318256fe17811",
}


def document(name: str) -> Any:
    return json.loads((MODEL_DIR / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    with (MODEL_DIR / "model.safetensors").open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(header_bytes))
    header.pop("__metadata__", None)
    return header


def test_the_folder_holds_these_files_and_no_others() -> None:
    assert {path.name for path in MODEL_DIR.iterdir()} == set(SHA256)


@pytest.mark.parametrize("name", SHA256)
def test_every_file_is_intact(name: str) -> None:
    assert hashlib.sha256((MODEL_DIR / name).read_bytes()).hexdigest() == SHA256[name]


def test_it_is_a_qwen3_of_eight_layers_with_tied_embeddings() -> None:
    config = document("config.json")
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["num_hidden_layers"] == 8
    assert config["tie_word_embeddings"] is True
    assert config["max_position_embeddings"] == 4096


def test_it_is_quantized_to_eight_bits_in_groups_of_64() -> None:
    assert document("config.json")["quantization"] == {"group_size": 64, "bits": 8, "mode": "affine"}


def test_all_but_the_packed_weights_is_float32(tensors: dict[str, Any]) -> None:
    packed = {name for name, tensor in tensors.items() if tensor["dtype"] == "U32"}
    assert {tensor["dtype"] for name, tensor in tensors.items() if name not in packed} == {"F32"}
    assert all(tensors[name.removesuffix("weight") + "scales"]["dtype"] == "F32" for name in packed)


def test_the_weights_are_those_of_eight_layers_an_embedding_and_a_norm(tensors: dict[str, Any]) -> None:
    layers = {name.split(".")[2] for name in tensors if name.startswith("model.layers.")}
    assert layers == {str(number) for number in range(8)}
    others = {name for name in tensors if not name.startswith("model.layers.")}
    assert others == {f"model.embed_tokens.{part}" for part in ("weight", "scales", "biases")} | {"model.norm.weight"}


def test_the_index_names_every_tensor_and_their_size(tensors: dict[str, Any]) -> None:
    index = document("model.safetensors.index.json")
    sizes_bytes = [end - start for start, end in (tensor["data_offsets"] for tensor in tensors.values())]
    assert index["weight_map"].keys() == tensors.keys()
    assert index["metadata"]["total_size"] == sum(sizes_bytes)


def test_generation_ends_at_the_end_of_a_turn_or_of_the_text() -> None:
    vocabulary = document("tokenizer.json")["model"]["vocab"]
    ends = {vocabulary["<|im_end|>"], vocabulary["<|endoftext|>"]}
    assert set(document("generation_config.json")["eos_token_id"]) == ends
    assert set(document("config.json")["eos_token_id"]) == ends
