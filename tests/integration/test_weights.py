"""Nodes that have nothing of the model: they are sent what their layers need, once, and whatever breaks off goes on."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlxctl.errors import LaunchError, StageLost, StoreFull
from mlxctl.launch.events import PhaseEvent
from mlxctl.profile import Profile
from mlxctl.request import GenerationRequest
from mlxctl.worker.layer_store import PARTIAL, LayerStore
from tests.pipelines import local_profile, running_pipeline
from tests.tiny_models import write_checkpoint

pytestmark = pytest.mark.integration

REQUEST = GenerationRequest(tuple(range(5, 25)), 12)
NODES = ("w0", "w1", "w2")


@dataclass(frozen=True, slots=True)
class BringUp:
    """What one bring-up sent and said, and how its model then answered."""

    sent_bytes: tuple[int, ...]
    answer: list[int]
    stages: tuple[tuple[str, int, int], ...]
    events: tuple[PhaseEvent, ...]


def bring_up(profile: Profile, stores: Mapping[str, Path]) -> BringUp:
    """Bring up nodes of which those in `stores` cannot read the model's folder, ask once, take them down."""
    events: list[PhaseEvent] = []

    async def run() -> BringUp:
        async with running_pipeline(profile, events.append, stores) as pipeline:
            answer = await pipeline.tokens(REQUEST)
            distribution, plan = pipeline.launch.distribution, pipeline.launch.plan
            assert distribution is not None and plan is not None
            stages = tuple((stage.node, stage.start, stage.stop) for stage in plan.stages)
            weights = tuple(event for event in events if event.title == "Weights")
            return BringUp(tuple(distribution.sent_bytes), answer, stages, weights)

    return asyncio.run(run())


def pinned(layers: Mapping[str, int]) -> Profile:
    """Three local nodes with so many layers each."""
    document = json.loads(local_profile(3).to_json())
    return Profile.from_json(json.dumps({**document, "placement": {"layers": layers}}))


def empty_stores(folder: Path) -> dict[str, Path]:
    return {node: folder / node for node in NODES}


def layers_in(store: Path) -> list[int]:
    """Layers that a store has whole."""
    return sorted(int(file.stem.rpartition("-")[2]) for file in store.glob("*/model-layer-*.safetensors"))


def stored_bytes(store: Path) -> int:
    return sum(file.stat().st_size for file in store.rglob("*") if file.is_file())


FIRST_LAYERS = {"w0": 3, "w1": 3, "w2": 2}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[BringUp, Path]:
    """A bring-up of three bare nodes, and the folder of their stores."""
    folder = tmp_path_factory.mktemp("stores")
    return bring_up(pinned(FIRST_LAYERS), empty_stores(folder)), folder


@pytest.fixture(scope="module")
def with_the_folder() -> BringUp:
    """The same on nodes that read the model's folder."""
    return bring_up(local_profile(1), {})


@pytest.fixture
def filled(first: tuple[BringUp, Path], tmp_path: Path) -> dict[str, Path]:
    """Stores as the first bring-up left them."""
    shutil.copytree(first[1], tmp_path / "stores")
    return empty_stores(tmp_path / "stores")


def test_bare_nodes_are_sent_each_layer_exactly_once(first: tuple[BringUp, Path]) -> None:
    came_up, folder = first
    stores = [folder / node for node, _, _ in came_up.stages]
    assert [layers_in(store) for store in stores] == [list(range(start, stop)) for _, start, stop in came_up.stages]
    assert sorted(layer for store in stores for layer in layers_in(store)) == list(range(8))
    assert came_up.sent_bytes == tuple(stored_bytes(store) for store in stores)


def test_bare_nodes_answer_as_those_that_read_the_models_folder(
    first: tuple[BringUp, Path], with_the_folder: BringUp
) -> None:
    assert first[0].answer == with_the_folder.answer
    assert len(first[0].answer) == REQUEST.max_tokens


def test_nodes_that_read_the_models_folder_are_sent_nothing(with_the_folder: BringUp) -> None:
    assert with_the_folder.sent_bytes == (0,)
    assert [event.detail for event in with_the_folder.events if event.detail] == ["they are here"]


def test_every_node_says_how_much_it_was_sent(first: tuple[BringUp, Path]) -> None:
    done = {event.node: event.detail for event in first[0].events if event.node and event.state == "done"}
    assert done.keys() == set(NODES)
    assert done["w1"] == f"{first[0].sent_bytes[1] / 1e6:.1f} MB in 6 pieces"


def test_a_second_bring_up_sends_nothing(first: tuple[BringUp, Path], filled: dict[str, Path]) -> None:
    again = bring_up(pinned(FIRST_LAYERS), filled)
    assert again.sent_bytes == (0, 0, 0)
    assert again.answer == first[0].answer


def test_another_plan_moves_only_what_changed_place(first: tuple[BringUp, Path], filled: dict[str, Path]) -> None:
    before = {node: set(store.rglob("*")) for node, store in filled.items()}
    had = {node: set(layers_in(store)) for node, store in filled.items()}
    moved = bring_up(pinned({"w0": 3, "w1": 4, "w2": 1}), filled)
    assert moved.answer == first[0].answer
    kept = 0
    for (node, start, stop), sent_bytes in zip(moved.stages, moved.sent_bytes, strict=True):
        new = set(filled[node].rglob("*")) - before[node]
        assert sent_bytes == sum(file.stat().st_size for file in new)
        assert set(layers_in(filled[node])) == had[node] | set(range(start, stop))
        kept += len(had[node] & set(range(start, stop)))
    assert kept and any(moved.sent_bytes)


def test_a_damaged_manifest_is_sent_again(first: tuple[BringUp, Path], filled: dict[str, Path]) -> None:
    (manifest,) = filled["w1"].glob("*/manifest.json")
    manifest.write_bytes(manifest.read_bytes()[:-1] + b" ")
    again = bring_up(pinned(FIRST_LAYERS), filled)
    assert again.sent_bytes == (0, manifest.stat().st_size, 0)
    assert again.answer == first[0].answer


def test_a_worker_killed_while_it_is_sent_weights_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "model", "qwen3", vocab_size=60_000, hidden_size=512)
    stores = {"w0": tmp_path / "w0", "w1": tmp_path / "w1"}
    profile = local_profile(2, str(path))
    killed = threading.Event()

    def kill_on_the_way(event: PhaseEvent) -> None:
        if event.title == "Start workers" and event.node == "w0":
            pid = int(event.detail.split()[1].rstrip(","))
            threading.Thread(target=kill_in_the_middle, args=(pid, stores["w0"], killed)).start()

    async def fail() -> None:
        async with running_pipeline(profile, kill_on_the_way, stores):
            pytest.fail("it came up")

    with pytest.raises((LaunchError, StageLost)) as caught:
        asyncio.run(fail())
    assert killed.wait(10) and caught.value.node == "w0"
    (partial,) = stores["w0"].glob(f"*/model-layer-00000.safetensors{PARTIAL}")
    kept_bytes = partial.stat().st_size
    whole = bring_up(profile, stores)
    (model,) = LayerStore(stores["w0"]).models()
    assert kept_bytes > 1 << 20
    assert whole.sent_bytes[0] <= model.size_bytes - kept_bytes
    assert LayerStore(stores["w0"]).damaged(model) == []
    assert whole.answer == bring_up(local_profile(1, str(path)), {}).answer


def kill_in_the_middle(pid: int, store: Path, killed: threading.Event) -> None:
    """Kill the worker as soon as a part of its first layer has come."""
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        for partial in store.glob(f"*/model-layer-00000.safetensors{PARTIAL}"):
            if partial.stat().st_size > 2 << 20:
                os.kill(pid, signal.SIGKILL)
                killed.set()
                return
        time.sleep(0.001)


def test_a_node_without_room_is_named_before_anything_is_sent(tmp_path: Path, small_disk: Path) -> None:
    stores = {**empty_stores(tmp_path), "w1": small_disk}
    with pytest.raises(StoreFull, match=r"need \d+ bytes more on a disk with \d+ free") as caught:
        bring_up(local_profile(3), stores)
    assert (caught.value.node, caught.value.stage) == ("w1", 1)
    assert [stored_bytes(store) for store in stores.values()] == [0, 0, 0]
