"""A model's pieces: every tensor that anything hangs on lies in exactly one, and their files are the model."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import mlx.core as mx
import pytest

from mlxctl.canary import MODEL_DIR
from mlxctl.checkpoint import ModelWeights, model_files, open_weights
from mlxctl.errors import CheckpointError
from mlxctl.sharding import load_model
from mlxctl.sharding.manifest import MANIFEST, Manifest
from mlxctl.sharding.model import read_headers
from mlxctl.sharding.safetensors import safetensors_header
from tests.stages import Stages
from tests.tiny_models import CONFIGS, LAYERS, write_checkpoint

pytestmark = pytest.mark.unit

PROMPT = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]]


def opened(path: Path, cache: Path, name: str = "tiny") -> ModelWeights:
    return open_weights(path, name, cache, lambda _done, _total: None)


def fill(folder: Path, weights: ModelWeights, start: int, stop: int) -> Path:
    """A folder with the pieces that a stage needs, as its node's store has them."""
    folder.mkdir()
    for piece in weights.manifest.needed(start, stop):
        (folder / piece.name).write_bytes(b"".join(weights.chunks(piece.name)))
    return folder


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_stages_of_pieces_alone_compute_what_the_model_does(tmp_path: Path, architecture: str) -> None:
    path = write_checkpoint(tmp_path / "model", architecture, files=3)
    expected = Stages.load(path, [3, 5], LAYERS).step(PROMPT)
    weights = opened(path, tmp_path)
    stages = []
    for start, stop in ((0, 3), (3, 5), (5, LAYERS)):
        folder = fill(tmp_path / str(start), weights, start, stop)
        absent = weights.manifest.tensors
        stages.append(load_model(folder, start, stop, on_progress=lambda _: None, absent=absent))
        stages[-1].warm_up()
    assert mx.array_equal(Stages(stages).step(PROMPT), expected).item()


@pytest.mark.parametrize("unstacked", [False, True])
def test_every_tensor_lies_in_one_piece(tmp_path: Path, unstacked: bool) -> None:
    path = write_checkpoint(tmp_path / "model", "qwen3_moe", unstacked=unstacked, files=4)
    weights = opened(path, tmp_path)
    whole = fill(tmp_path / "whole", weights, 0, LAYERS)
    found = [name for file in whole.glob("*.safetensors") for name in safetensors_header(file)]
    assert sorted(found) == sorted(read_headers(path))


def test_each_layer_is_needed_by_one_stage_alone(tmp_path: Path) -> None:
    manifest = opened(MODEL_DIR, tmp_path).manifest
    stages = [{piece.name for piece in manifest.needed(start, stop)} for start, stop in ((0, 3), (3, 6), (6, 8))]
    layers = [name for names in stages for name in names if "layer" in name]
    assert sorted(layers) == [f"model-layer-{layer:05}.safetensors" for layer in range(8)]
    tied = "model-shared-0.safetensors"
    assert [tied in names for names in stages] == [True, False, True]


def test_pieces_have_the_sizes_and_hashes_of_the_manifest(tmp_path: Path) -> None:
    weights = opened(MODEL_DIR, tmp_path)
    for piece in (weights.manifest.own_entry, *weights.manifest.pieces):
        data = b"".join(weights.chunks(piece.name))
        assert (len(data), hashlib.sha256(data).hexdigest()) == (piece.size_bytes, piece.sha256)


@pytest.mark.parametrize("offset", [0, 1, 7, 8, 2000, 889_903, 889_904])
def test_a_piece_can_be_read_from_any_offset(tmp_path: Path, offset: int) -> None:
    weights = opened(MODEL_DIR, tmp_path)
    for name in (MANIFEST, "model-layer-00003.safetensors"):
        whole = b"".join(weights.chunks(name))
        assert b"".join(weights.chunks(name, min(offset, len(whole)))) == whole[offset:]


def test_no_chunk_is_longer_than_a_message(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "model", "llama", vocab_size=20_000)
    weights = opened(path, tmp_path)
    sizes = [len(chunk) for piece in weights.manifest.pieces for chunk in weights.chunks(piece.name)]
    assert max(sizes) == 1 << 20


def test_a_model_is_hashed_once(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    keys = [open_weights(MODEL_DIR, "canary", tmp_path, lambda *done: seen.append(done)).manifest.key]
    assert seen[-1][0] == seen[-1][1] == sum(piece.size_bytes for piece in opened(MODEL_DIR, tmp_path).manifest.pieces)
    keys.append(open_weights(MODEL_DIR, "canary", tmp_path, lambda *_: pytest.fail("hashed again")).manifest.key)
    assert keys[0] == keys[1]


def test_other_weights_of_the_same_shapes_are_another_model(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "model", "llama")
    before = opened(path, tmp_path).manifest.key
    (file,) = path.glob("*.safetensors")
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(file, ns=(1, 1))
    assert opened(path, tmp_path).manifest.key != before


def test_a_manifest_survives_its_encoding(tmp_path: Path) -> None:
    manifest = opened(MODEL_DIR, tmp_path, "canary").manifest
    decoded = Manifest.decode(manifest.encoded)
    assert (decoded.key, decoded.pieces, decoded.layer_count) == (manifest.key, manifest.pieces, 8)
    assert {name: header.shape for name, header in decoded.tensors.items()} == {
        name: header.shape for name, header in manifest.tensors.items()
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 2}',
        b'{"version":1,"name":"x","layer_count":1,"pieces":[["../x",1,"%s",[]]],"tensors":{}}' % (b"0" * 64),
        b'{"version":1,"name":"x","layer_count":1,"pieces":[["x",1,"0",[]]],"tensors":{}}',
        b'{"version":1,"name":"x","layer_count":1,"pieces":[],"tensors":{"t":["float32"]}}',
        b"[" * 100_000,
    ],
)
def test_a_manifest_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="manifest"):
        Manifest.decode(data)


def test_the_files_that_loading_reads_are_known_by_size(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "llama", files=2)
    (path / "README.md").write_text("hello")
    assert sorted(model_files(path)) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
