"""From a name to a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxctl.canary import MODEL_DIR
from mlxctl.checkpoint.resolve import resolve_model, revision_of
from mlxctl.errors import CheckpointError

pytestmark = pytest.mark.unit


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one model."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    snapshot = folder / "models--some--model" / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").touch()
    (folder / "models--some--model" / "refs").mkdir()
    (folder / "models--some--model" / "refs" / "main").write_text("abc123")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


def test_canary_is_built_in() -> None:
    assert resolve_model("canary") == MODEL_DIR


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert resolve_model(tmp_path) == resolve_model(str(tmp_path)) == tmp_path.resolve()


def test_a_hub_id_is_found_in_the_cache_with_its_revision(hub: Path) -> None:
    folder = resolve_model("some/model")
    assert folder == hub / "models--some--model" / "snapshots" / "abc123"
    assert revision_of(folder) == "abc123"


def test_a_folder_of_one_s_own_has_no_revision(tmp_path: Path) -> None:
    assert revision_of(tmp_path) is None


def test_offline_a_hub_id_that_is_not_cached_says_how_to_fetch_it(hub: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_model("some/other-model")
    assert "HF_HUB_OFFLINE" in caught.value.message
    assert caught.value.hint == "unset HF_HUB_OFFLINE, or bring it here: hf download some/other-model"


def test_a_misspelt_canary_is_recognised() -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_model("canry")
    assert caught.value.hint == "did you mean canary?"


@pytest.mark.parametrize("name", ["./nothing/here", "a b", "../x/y/z"])
def test_what_is_no_model_says_what_a_model_may_be(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="there is no such folder"):
        resolve_model(name)


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(CheckpointError, match="is a file"):
        resolve_model(file)
