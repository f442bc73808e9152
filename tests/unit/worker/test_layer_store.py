"""What a node keeps of a model: whole pieces only, resumed where they stopped, refused where they do not fit."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from mlxctl.errors import CheckpointError, CorruptFrame, StoreFull
from mlxctl.sharding.manifest import MANIFEST, Manifest, PieceEntry
from mlxctl.worker.layer_store import PARTIAL, LayerStore

pytestmark = pytest.mark.unit

DATA = bytes(range(256)) * 1000
LAYER = "model-layer-00000.safetensors"


def manifest_of(data: bytes = DATA, name: str = LAYER) -> Manifest:
    entry = PieceEntry(name, len(data), hashlib.sha256(data).hexdigest(), (0,))
    return Manifest("tiny", 1, (entry,), {})


def put(store: LayerStore, manifest: Manifest, piece: str, data: bytes) -> None:
    size_bytes = next(e.size_bytes for e in (manifest.own_entry, *manifest.pieces) if e.name == piece)
    with store.receive(manifest.key, piece, size_bytes) as writer:
        assert writer is not None
        writer.write(data[writer.present_bytes :])
        writer.finish()


@pytest.fixture
def manifest() -> Manifest:
    return manifest_of()


@pytest.fixture
def store(tmp_path: Path, manifest: Manifest) -> LayerStore:
    """A store that knows the model and has nothing of it yet."""
    store = LayerStore(tmp_path / "store")
    put(store, manifest, MANIFEST, manifest.encoded)
    return store


def break_off(store: LayerStore, manifest: Manifest, data: bytes) -> None:
    """Send the beginning of the layer, then lose the connection."""
    with pytest.raises(ConnectionError), store.receive(manifest.key, LAYER, len(DATA)) as writer:
        assert writer is not None
        writer.write(data)
        raise ConnectionError


def test_a_piece_that_came_whole_can_be_loaded(store: LayerStore, manifest: Manifest) -> None:
    put(store, manifest, LAYER, DATA)
    folder, found = store.require(manifest.key, 0, 1)
    assert (folder / LAYER).read_bytes() == DATA
    assert found == manifest


def test_a_piece_that_broke_off_goes_on_where_it_stopped(store: LayerStore, manifest: Manifest) -> None:
    break_off(store, manifest, DATA[:1000])
    assert store.held_bytes(manifest.key)[LAYER] == 1000
    with store.receive(manifest.key, LAYER, len(DATA)) as writer:
        assert writer is not None and writer.present_bytes == 1000
        writer.write(DATA[1000:])
        writer.finish()
    assert store.held_bytes(manifest.key)[LAYER] == len(DATA)


def test_a_piece_is_never_seen_half(store: LayerStore, manifest: Manifest) -> None:
    break_off(store, manifest, DATA[:-1])
    folder = store.folder(manifest.key)
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, LAYER + PARTIAL]
    with pytest.raises(CheckpointError, match=LAYER):
        store.require(manifest.key, 0, 1)


def test_a_piece_that_was_not_checked_is_not_whole(store: LayerStore, manifest: Manifest) -> None:
    break_off(store, manifest, DATA)
    assert store.held_bytes(manifest.key)[LAYER] < len(DATA)
    put(store, manifest, LAYER, DATA)
    assert store.held_bytes(manifest.key)[LAYER] == len(DATA)


def test_a_manifest_that_was_damaged_is_taken_again(store: LayerStore, manifest: Manifest) -> None:
    file = store.folder(manifest.key) / MANIFEST
    file.write_bytes(manifest.encoded[:-1] + b" ")
    assert store.held_bytes(manifest.key) == {}
    put(store, manifest, MANIFEST, manifest.encoded)
    assert store.manifest(manifest.key) == manifest


def test_a_piece_cannot_be_finished_before_its_end(store: LayerStore, manifest: Manifest) -> None:
    with pytest.raises(CorruptFrame, match="ended after 5 of"), store.receive(manifest.key, LAYER, len(DATA)) as writer:
        assert writer is not None
        writer.write(DATA[:5])
        writer.finish()


def test_a_damaged_piece_is_found_by_its_hash_and_forgotten(store: LayerStore, manifest: Manifest) -> None:
    damaged = DATA[:50] + b"\xff" + DATA[51:]
    with pytest.raises(CorruptFrame, match="hash"):
        put(store, manifest, LAYER, damaged)
    assert LAYER not in store.held_bytes(manifest.key)


def test_damage_to_a_beginning_on_disk_is_found_at_the_end(store: LayerStore, manifest: Manifest) -> None:
    break_off(store, manifest, b"\xff" * 1000)
    with pytest.raises(CorruptFrame, match="hash"):
        put(store, manifest, LAYER, DATA)
    put(store, manifest, LAYER, DATA)
    assert store.damaged(store.models()[0]) == []


def test_damage_on_disk_is_found_by_hashing_again(store: LayerStore, manifest: Manifest) -> None:
    put(store, manifest, LAYER, DATA)
    file = store.folder(manifest.key) / LAYER
    file.write_bytes(b"\xff" + DATA[1:])
    assert store.damaged(store.models()[0]) == [LAYER]


def test_a_file_of_the_wrong_size_is_not_held_and_is_replaced(store: LayerStore, manifest: Manifest) -> None:
    put(store, manifest, LAYER, DATA)
    os.truncate(store.folder(manifest.key) / LAYER, 10)
    assert LAYER not in store.held_bytes(manifest.key)
    put(store, manifest, LAYER, DATA)
    assert store.held_bytes(manifest.key)[LAYER] == len(DATA)


def test_a_piece_that_is_here_is_not_taken_again(store: LayerStore, manifest: Manifest) -> None:
    put(store, manifest, LAYER, DATA)
    with store.receive(manifest.key, LAYER, len(DATA)) as writer:
        assert writer is None


def test_two_senders_of_one_piece_do_not_disturb_each_other(store: LayerStore, manifest: Manifest) -> None:
    second: list[bool] = []

    def send_too() -> None:
        with store.receive(manifest.key, LAYER, len(DATA)) as writer:
            second.append(writer is None)

    thread = threading.Thread(target=send_too)
    with store.receive(manifest.key, LAYER, len(DATA)) as writer:
        assert writer is not None
        writer.write(DATA[:1000])
        thread.start()
        writer.write(DATA[1000:])
        writer.finish()
    thread.join()
    assert second == [True]
    assert store.damaged(store.models()[0]) == []


def test_a_sender_that_is_gone_does_not_wait_for_its_turn(store: LayerStore, manifest: Manifest) -> None:
    with (
        store.receive(manifest.key, LAYER, len(DATA)),
        pytest.raises(CorruptFrame, match="gone"),
        store.receive(manifest.key, LAYER, len(DATA), lambda: False),
    ):
        pytest.fail("two have the piece")


@pytest.mark.parametrize("piece", ["../evil", "a/b", "", ".hidden", "x" * 200, "model-layer-00009.safetensors"])
def test_only_pieces_of_the_manifest_are_taken(store: LayerStore, manifest: Manifest, piece: str) -> None:
    with pytest.raises(CorruptFrame), store.receive(manifest.key, piece, 3):
        pytest.fail("it was taken")


@pytest.mark.parametrize("key", ["", "..", "a" * 63, "../" + "a" * 61, "A" * 64])
def test_only_hashes_are_keys(store: LayerStore, key: str) -> None:
    with pytest.raises(CorruptFrame), store.receive(key, MANIFEST, 3):
        pytest.fail("it was taken")


def test_a_manifest_that_is_not_its_keys_is_refused(store: LayerStore) -> None:
    key = "0" * 64
    with pytest.raises(CorruptFrame, match="hash"), store.receive(key, MANIFEST, 2) as writer:
        assert writer is not None
        writer.write(b"{}")
        writer.finish()
    assert store.manifest(key) is None


def test_the_store_tells_its_models_with_sizes(store: LayerStore, manifest: Manifest) -> None:
    break_off(store, manifest, DATA[:1000])
    (model,) = store.models()
    assert (model.manifest.name, model.key, model.pieces, model.size_bytes) == ("tiny", manifest.key, (), 1000)
    put(store, manifest, LAYER, DATA)
    (model,) = store.models()
    assert (model.pieces, model.partial_bytes, model.size_bytes) == (manifest.pieces, 0, len(DATA))


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = LayerStore(tmp_path / "nowhere" / "yet")
    assert store.models() == []
    assert store.held_bytes("a" * 64) == {}
    assert store.free_bytes() > 0


def test_what_does_not_fit_the_disk_is_refused_before_it_starts(small_disk: Path) -> None:
    data = os.urandom(2 << 20)
    manifest = manifest_of(data)
    store = LayerStore(small_disk)
    put(store, manifest, MANIFEST, manifest.encoded)
    with pytest.raises(StoreFull, match=f"need {2 << 20} bytes .* has \\d+ free"):
        put(store, manifest, LAYER, data)
    assert LAYER not in store.held_bytes(manifest.key)


def test_a_disk_that_fills_up_on_the_way_keeps_what_came(small_disk: Path) -> None:
    data = os.urandom(700_000)
    manifest = manifest_of(data)
    store = LayerStore(small_disk)
    put(store, manifest, MANIFEST, manifest.encoded)
    with pytest.raises(StoreFull), store.receive(manifest.key, LAYER, len(data)) as writer:
        assert writer is not None
        writer.write(data[:100_000])
        (small_disk / "something else").write_bytes(os.urandom(800_000))
        writer.write(data[100_000:])
    (small_disk / "something else").unlink()
    put(store, manifest, LAYER, data)
    assert store.damaged(store.models()[0]) == []
