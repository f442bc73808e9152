"""`mlxctl models` tells what is where: the built-in model, the hub's cache, layers that were sent here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxctl.canary import MODEL_DIR
from mlxctl.checkpoint import open_weights
from mlxctl.cli.main import run
from mlxctl.worker.layer_store import LayerStore
from tests.tiny_models import write_checkpoint

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home and a hub cache of this test's own."""
    from huggingface_hub import constants

    monkeypatch.setenv("MLXCTL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def listed(capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    assert run(["models", "list", "--json", *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "mlxctl.models/1"
    models: list[dict[str, Any]] = document["models"]
    return models


def fill_store(tmp_path: Path) -> Path:
    """Layers 0 to 2 of the canary in this home's store; the folder."""
    weights = open_weights(MODEL_DIR, "canary", tmp_path, lambda _done, _total: None)
    store = LayerStore(tmp_path / "home" / "store")
    for piece in (weights.manifest.own_entry, *weights.manifest.needed(0, 3)):
        with store.receive(weights.manifest.key, piece.name, piece.size_bytes) as writer:
            assert writer is not None
            for chunk in weights.chunks(piece.name):
                writer.write(chunk)
            writer.finish()
    return store.folder(weights.manifest.key)


def test_the_built_in_model_is_always_there(capsys: pytest.CaptureFixture[str]) -> None:
    (canary,) = listed(capsys)
    assert (canary["name"], canary["place"], canary["fault"]) == ("canary", "builtin", None)
    assert canary["size_bytes"] > 7_000_000


def test_models_in_the_hub_cache_are_listed_with_what_they_lack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / "abc123"
    write_checkpoint(snapshot, "llama", files=2)
    _, tiny = listed(capsys)
    assert (tiny["name"], tiny["place"], tiny["fault"]) == ("someone/tiny", "hub", None)
    (snapshot / "model-00002-of-00002.safetensors").unlink()
    _, tiny = listed(capsys)
    assert "lacks model-00002-of-00002" in tiny["fault"]


def test_layers_that_were_sent_here_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill_store(tmp_path)
    _, stored = listed(capsys, "--verify")
    assert (stored["name"], stored["place"], stored["path"]) == ("canary", "store", str(folder))
    assert (stored["layers"], stored["layer_count"], stored["damaged"]) == ([0, 1, 2], 8, [])


def test_a_person_reads_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill_store(tmp_path)
    assert run(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "where", "size", "what"]
    assert "built in" in lines[1] and "complete" in lines[1]
    assert "layer store" in lines[2] and "3 of 8 layers" in lines[2]


def test_damage_is_found_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = fill_store(tmp_path) / "model-layer-00001.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert run(["models", "--verify"]) == 1
    assert "model-layer-00001.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["push"], "models push needs a model"),
        (["pull", "canary"], "canary is no hub id"),
        (["prun"], "mlxctl models prune"),
        (["list", "canary"], "takes no model"),
        (["remove", "canary", "local"], "takes no profile"),
    ],
)
def test_words_that_do_not_go_together_are_refused(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", *words]) == 2
    assert says in capsys.readouterr().err


def test_nothing_is_removed_unless_agreed_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill_store(tmp_path)
    assert run(["models", "remove", "canary"]) == 0
    said = capsys.readouterr().err
    assert str(folder) in said and "MiB" in said and "nothing was removed; --yes does it" in said
    assert folder.exists()


def test_a_model_is_removed_with_all_its_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill_store(tmp_path)
    size_bytes = sum(file.stat().st_size for file in folder.iterdir())
    assert run(["models", "remove", "canary", "--yes", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["removed"], document["size_bytes"]) == ("mlxctl.removed/1", True, size_bytes)
    assert not folder.exists()


def test_what_is_not_ours_to_remove_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "remove", "someone/tiny", "--yes"]) == 1
    assert "nothing of someone/tiny" in capsys.readouterr().err


def test_pruning_takes_what_nothing_will_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill_store(tmp_path)
    partial = folder / "model-layer-00005.safetensors.partial"
    partial.write_bytes(b"beginning")
    unknown = folder.with_name("0" * 64)
    unknown.mkdir()
    (unknown / "model-layer-00000.safetensors").write_bytes(b"whose?")
    assert run(["models", "prune", "--yes", "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert sorted((file["path"], file["size_bytes"]) for file in files) == [(str(unknown), 6), (str(partial), 9)]
    assert not partial.exists() and not unknown.exists() and folder.exists()


def test_a_transfer_under_way_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill_store(tmp_path)
    store = LayerStore(tmp_path / "home" / "store")
    piece = next(piece for piece in store.models()[0].manifest.pieces if piece.name == "model-layer-00005.safetensors")
    with store.receive(folder.name, piece.name, piece.size_bytes):
        assert run(["models", "prune", "--yes"]) == 0
        assert (folder / f"{piece.name}.partial").exists()
    assert "nothing to remove" in capsys.readouterr().err
