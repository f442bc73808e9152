"""`mlxctl models pull` and `push`: nodes are filled ahead of time, and nothing is left running."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxctl import paths
from mlxctl.launch.events import PhaseEvent
from mlxctl.launch.fill import Filled, fill_nodes
from mlxctl.profile import Profile
from tests.commands import mlxctl
from tests.hub_server import COMMIT, HubServer, Repo
from tests.pipelines import local_profile
from tests.tiny_models import LAYERS, write_checkpoint

pytestmark = pytest.mark.integration

NAME = "someone/tiny"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", "qwen3", files=3)


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with that model; this machine has nothing of it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with HubServer({NAME: Repo(model)}).serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server
    shutil.rmtree(paths.hub_dir(), ignore_errors=True)
    shutil.rmtree(paths.store_dir(), ignore_errors=True)


def filled(profile: Profile, stores: dict[str, Path]) -> tuple[tuple[Filled, ...], list[PhaseEvent]]:
    events: list[PhaseEvent] = []
    return asyncio.run(fill_nodes(profile, events.append, separate_stores=stores)), events


def test_pull_brings_a_hub_s_model_here_and_list_shows_it(hub: HubServer) -> None:
    pulled = mlxctl("models", "pull", NAME, "--json").json()
    assert pulled["schema"] == "mlxctl.fill/1"
    assert len(pulled["nodes"]) == 2
    assert all(node["fetched_bytes"] and not node["folder"] for node in pulled["nodes"])
    stored = next(row for row in mlxctl("models", "--json").json()["models"] if row["place"] == "store")
    assert (stored["name"], stored["revision"], stored["layers"]) == (NAME, COMMIT, list(range(LAYERS)))


def test_pull_moves_to_the_newest_commit_and_prune_takes_the_old_one(hub: HubServer, model: Path) -> None:
    mlxctl("models", "pull", NAME)
    hub.repos[NAME] = Repo(model, "f" * 40)
    mlxctl("models", "pull", NAME)
    document = mlxctl("models", "prune", "--yes", "--json").json()
    assert [file["why"] for file in document["files"]] == [f"replaced by a newer commit of {NAME}"]
    stored = [row for row in mlxctl("models", "--json").json()["models"] if row["place"] == "store"]
    assert [row["revision"] for row in stored] == ["f" * 40]


def test_push_without_a_copy_here_says_to_pull(hub: HubServer) -> None:
    done = mlxctl("models", "push", NAME)
    assert done.code == 1
    assert f"this machine has no copy of {NAME} to send" in done.stderr and f"models pull {NAME}" in done.stderr


def test_push_fills_bare_nodes_and_up_then_sends_nothing(model: Path, tmp_path: Path) -> None:
    stores = {"w0": tmp_path / "w0", "w1": tmp_path / "w1"}
    profile = local_profile(2, str(model))
    nodes, events = filled(profile, stores)
    assert sum(node.sent_bytes for node in nodes) > sum(file.stat().st_size for file in model.glob("*.safetensors"))
    assert {event.node for event in events if event.title == "Weights" and event.share == 1.0} == {"w0", "w1"}
    again, _ = filled(profile, stores)
    assert [node.sent_bytes for node in again] == [0, 0]


def test_what_nodes_read_where_it_is_is_not_moved(model: Path) -> None:
    nodes, _ = filled(local_profile(2, str(model)), {})
    assert [(node.folder, node.sent_bytes) for node in nodes] == [(str(model), 0)] * 2
