"""A model that is on a hub only: every node reads its own layers from there, once; what breaks off goes on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mlxctl import paths
from mlxctl.checkpoint import read_model_facts
from mlxctl.errors import LaunchError
from mlxctl.hub import HubAccess
from mlxctl.launch.events import PhaseEvent
from mlxctl.launch.weights import Place
from mlxctl.request import GenerationRequest
from mlxctl.worker.layer_store import LayerStore
from tests.hub_server import COMMIT, TOKEN, Fault, HubServer, Repo
from tests.pipelines import local_profile, running_pipeline
from tests.tiny_models import LAYERS, write_checkpoint

pytestmark = pytest.mark.integration

NAME = "someone/tiny"
REQUEST = GenerationRequest(tuple(range(5, 25)), 12)
NODES = ("w0", "w1", "w2")
FILES = 3


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", "qwen3", files=FILES, hidden_size=256, intermediate_size=1024)


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with that model, which this machine has never heard of, and a user who may read it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with HubServer({NAME: Repo(model, gated=True)}).serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server
    shutil.rmtree(paths.hub_dir(), ignore_errors=True)
    shutil.rmtree(paths.store_dir(), ignore_errors=True)


class BringUp:
    """Nodes brought up with the model of `name`, asked once, taken down; what was said and where weights came from."""

    def __init__(self, name: str, nodes: int, stores: Mapping[str, Path]) -> None:
        self.events: list[PhaseEvent] = []
        self.answer: list[int] = []
        self.places: list[Place] = []
        self.sent_bytes = self.fetched_bytes = 0
        self.command_lines = ""
        asyncio.run(self._run(name, nodes, stores))

    async def _run(self, name: str, nodes: int, stores: Mapping[str, Path]) -> None:
        async with running_pipeline(local_profile(nodes, name), self.events.append, stores) as pipeline:
            self.answer = await pipeline.tokens(REQUEST)
            found = pipeline.launch.distribution
            assert found is not None
            self.places = found.places
            self.sent_bytes, self.fetched_bytes = sum(found.sent_bytes), sum(found.fetched_bytes)
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # ended meanwhile
                    self.command_lines += " ".join(child.cmdline()) + "\n"

    def said(self, node: str) -> str:
        return next(e.detail for e in self.events if (e.title, e.node, e.state) == ("Weights", node, "done"))


def stores_in(folder: Path) -> dict[str, Path]:
    return {node: folder / node for node in NODES}


def layers_in(store: Path) -> list[int]:
    return sorted(int(file.stem.rpartition("-")[2]) for file in store.glob("*/model-layer-*.safetensors"))


def weight_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def read_from_content(hub: HubServer) -> int:
    return sum(seen.body_bytes for seen in hub.seen if seen.server == "content")


def test_each_node_reads_its_layers_from_the_hub_exactly_once(hub: HubServer, model: Path, tmp_path: Path) -> None:
    came_up = BringUp(NAME, 3, stores_in(tmp_path))
    assert came_up.answer == BringUp(str(model), 1, {}).answer
    held = [layers_in(store) for store in stores_in(tmp_path).values()]
    assert sorted(layer for layers in held for layer in layers) == list(range(LAYERS)) and all(held)
    assert read_from_content(hub) < 1.05 * weight_bytes(model) + FILES * (1 << 17)
    assert came_up.fetched_bytes > 0.95 * weight_bytes(model)
    assert came_up.sent_bytes < 100_000
    assert came_up.said("w1").endswith("pieces, from the hub")


def test_what_came_from_the_hub_is_known_by_its_hash(hub: HubServer, tmp_path: Path) -> None:
    BringUp(NAME, 3, stores_in(tmp_path))
    store = LayerStore(tmp_path / "w1")
    (stored,) = store.models()
    assert store.damaged(stored) == []
    piece = store.folder(stored.key) / stored.pieces[-1].name
    piece.write_bytes(piece.read_bytes()[:-1] + b"?")
    assert store.damaged(stored) == [piece.name]


def test_a_second_bring_up_asks_the_hub_for_nothing(hub: HubServer, tmp_path: Path) -> None:
    first = BringUp(NAME, 3, stores_in(tmp_path))
    hub.seen.clear()
    again = BringUp(NAME, 3, stores_in(tmp_path))
    assert (hub.seen, again.sent_bytes, again.fetched_bytes) == ([], 0, 0)
    assert again.answer == first.answer


def test_nodes_of_one_machine_share_what_they_fetch(hub: HubServer, model: Path) -> None:
    BringUp(NAME, 2, {})
    hub.seen.clear()
    assert BringUp(NAME, 1, {}).fetched_bytes == 0
    assert layers_in(paths.store_dir()) == list(range(LAYERS))


def test_cut_connections_go_on_where_they_were(hub: HubServer, model: Path, tmp_path: Path) -> None:
    read_model_facts(NAME)
    hub.faults += [
        Fault("model-00002", times=6, cut_after=100_000),
        Fault("model-00001", times=2, status=503),
    ]
    came_up = BringUp(NAME, 3, stores_in(tmp_path))
    assert came_up.answer == BringUp(str(model), 1, {}).answer
    assert read_from_content(hub) < 1.1 * weight_bytes(model) + FILES * (1 << 17)


def test_a_bring_up_that_failed_has_kept_what_came(hub: HubServer, model: Path, tmp_path: Path) -> None:
    read_model_facts(NAME)
    hub.faults.append(Fault("model-00003", times=99, status=404))
    with pytest.raises(LaunchError, match=r"bringing model-.* failed: .*model-00003"):
        BringUp(NAME, 1, {"w0": tmp_path / "w0"})
    kept_bytes = sum(file.stat().st_size for file in (tmp_path / "w0").rglob("*.safetensors*"))
    hub.faults.clear()
    again = BringUp(NAME, 1, {"w0": tmp_path / "w0"})
    assert kept_bytes > 0
    assert again.fetched_bytes <= weight_bytes(model) * 1.05 - kept_bytes
    assert ", from the hub, " in again.said("w0") and again.said("w0").endswith("were there")


def test_a_node_reads_its_own_hub_cache_if_that_has_its_files(hub: HubServer, model: Path, tmp_path: Path) -> None:
    read_model_facts(NAME)
    snapshot = tmp_path / "cache" / "models--someone--tiny" / "snapshots" / COMMIT
    shutil.copytree(model, snapshot, ignore=shutil.ignore_patterns("*-00003-of*"))
    came_up = BringUp(NAME, 3, {})
    assert came_up.places[0].folder == str(snapshot)
    assert not came_up.places[2].folder
    assert came_up.answer == BringUp(str(model), 1, {}).answer


def test_a_node_that_does_not_reach_the_hub_gets_its_layers_through_the_coordinator(
    hub: HubServer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = HubAccess("http://127.0.0.1:1")
    monkeypatch.setattr("mlxctl.launch.transfer.access_from_environment", lambda: nowhere)
    came_up = BringUp(NAME, 1, {"w0": tmp_path / "w0"})
    assert came_up.said("w0").endswith("through this machine: the node does not reach it")
    assert came_up.answer == BringUp(str(model), 1, {}).answer


def test_the_token_is_in_no_command_line_and_no_log(
    hub: HubServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    came_up = BringUp(NAME, 3, stores_in(tmp_path))
    assert TOKEN not in came_up.command_lines + repr(came_up.events)
    assert TOKEN not in "".join(capfd.readouterr())
    assert all(TOKEN.encode() not in file.read_bytes() for file in paths.home().rglob("*") if file.is_file())
    assert all(seen.token is None for seen in hub.seen if seen.server == "content")
