"""What a node lacks, and how the time left is told."""

from __future__ import annotations

import pytest

from mlxctl.checkpoint import ModelWeights
from mlxctl.errors import StoreFull
from mlxctl.launch.stages import Deployment, StageConnection
from mlxctl.launch.weights import Meter, Missing, Need, Place, check_disks, megabytes, missing
from mlxctl.plan import Stage
from mlxctl.sharding.manifest import MANIFEST, Manifest, PieceEntry

pytestmark = pytest.mark.unit

SHA256 = "0" * 64
PIECES = (
    PieceEntry("config.json", 10, SHA256),
    PieceEntry("layer-0", 100, SHA256, (0,)),
    PieceEntry("ends", 50, SHA256, (0, 3)),
    PieceEntry("layer-1", 100, SHA256, (1,)),
    PieceEntry("layer-2", 100, SHA256, (2,)),
    PieceEntry("output", 5, SHA256, (3,)),
)
WEIGHTS = ModelWeights(Manifest("tiny", 3, PIECES, {}), {})
MANIFEST_BYTES = WEIGHTS.manifest.own_entry.size_bytes


@pytest.mark.parametrize(
    ("start", "stop", "names"),
    [
        (0, 1, ["config.json", "layer-0", "ends"]),
        (1, 2, ["config.json", "layer-1"]),
        (2, 3, ["config.json", "ends", "layer-2", "output"]),
        (0, 3, ["config.json", "layer-0", "ends", "layer-1", "layer-2", "output"]),
    ],
)
def test_a_bare_node_lacks_the_manifest_and_what_its_layers_hang_on(start: int, stop: int, names: list[str]) -> None:
    assert list(missing(WEIGHTS, start, stop, {}).pieces) == [MANIFEST, *names]


def test_what_a_node_has_is_not_missing() -> None:
    has = {MANIFEST: MANIFEST_BYTES, "config.json": 10, "layer-1": 100, "layer-0": 100}
    assert missing(WEIGHTS, 1, 2, has).pieces == {}
    assert list(missing(WEIGHTS, 1, 3, has).pieces) == ["ends", "layer-2", "output"]


def test_beginnings_count_as_sent() -> None:
    lacking = missing(WEIGHTS, 1, 2, {MANIFEST: MANIFEST_BYTES, "config.json": 10, "layer-1": 60})
    assert (lacking.resumed_bytes, lacking.size_bytes) == (60, 40)


def need(node: int, pieces: dict[str, int], free_bytes: int, disk: str) -> Need:
    """One node that lacks `pieces`; nothing is sent over its connection."""
    connection = object.__new__(StageConnection)
    connection.deployment = Deployment("d", 1, "/nowhere")
    connection.stage = Stage(node, f"w{node}", 0, node, node + 1, 0, 0, 0, 0, 0)
    return Need(connection, Place(), Missing(pieces, 0), free_bytes, disk)


def test_nodes_of_one_disk_need_its_room_together() -> None:
    first, second = need(0, {"layer-0": 100, "ends": 50}, 249, "a"), need(1, {"layer-1": 100, "ends": 50}, 249, "a")
    with pytest.raises(StoreFull, match="need 250 bytes more on a disk with 249 free"):
        check_disks([first, second])


def test_nodes_of_other_disks_and_what_they_share_count_once() -> None:
    check_disks([need(0, {"layer-0": 100, "ends": 50}, 150, "a"), need(1, {"layer-1": 100, "ends": 50}, 150, "b")])
    check_disks([need(0, {"layer-0": 100, "ends": 50}, 250, "a"), need(1, {"layer-1": 100, "ends": 50}, 250, "a")])


def test_the_meter_tells_bytes_share_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("mlxctl.launch.weights.time.monotonic", lambda: now_s[0])
    told: list[tuple[str, float]] = []
    meter = Meter(lambda detail, share: told.append((detail, share)))
    for now_s[0], done_bytes in ((100.1, 1_000_000), (102.0, 2_000_000), (102.1, 3_000_000)):
        meter.reached(done_bytes, 8_000_000)
    assert told == [("2.0 MB of 8.0 MB, 6 s left", 0.25)]


def test_megabytes_are_decimal() -> None:
    assert megabytes(1_234_567) == "1.2 MB"
