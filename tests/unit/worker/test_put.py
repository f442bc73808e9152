"""Put over real gRPC: resumed, refused, repeated, and for the coordinator alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from mlxctl.checkpoint.weights import ModelWeights, Segment
from mlxctl.errors import LaunchError
from mlxctl.launch.certificates import CertificateAuthority
from mlxctl.launch.stages import Deployment, StageConnection
from mlxctl.launch.transfer import Transfer
from mlxctl.plan import Stage
from mlxctl.rpc import shard_pb2
from mlxctl.sharding.manifest import Manifest, PieceEntry
from mlxctl.wire.identity import Identity, PrivateKey
from mlxctl.wire.service import COORDINATOR_NAME, add_to_server, stage_name
from mlxctl.worker.layer_store import LayerStore
from mlxctl.worker.service import WorkerService
from mlxctl.worker.weights import NodeWeights

pytestmark = pytest.mark.unit

LAYER = "model-layer-00000.safetensors"
DATA = os.urandom(3_500_000)
STAGE = Stage(0, "w0", 0, 0, 1, 0, 0, 0, 0, 0)


def identity(authority: CertificateAuthority, name: str) -> Identity:
    key = PrivateKey(name)
    return key.identity(authority.sign(key.request_pem, name), authority.certificate_pem)


def weights_of(data: bytes, sha256: str | None = None) -> ModelWeights:
    """A model of one layer; `sha256` if its manifest is to lie."""
    entry = PieceEntry(LAYER, len(data), sha256 or hashlib.sha256(data).hexdigest(), (0,))
    return ModelWeights(Manifest("tiny", 1, (entry,), {}), {LAYER: (Segment(len(data), data),)})


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    return LayerStore(tmp_path / "store")


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.fixture
def address(store: LayerStore, authority: CertificateAuthority) -> Iterator[str]:
    """A worker's service in this process."""
    own = identity(authority, stage_name("d", 0))
    server = grpc.server(ThreadPoolExecutor(4))
    service = WorkerService(own, lambda _: None, lambda: None, NodeWeights(store, store_only=True))
    add_to_server(service, server)
    port = server.add_secure_port("127.0.0.1:0", own.server_credentials())
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def connect(address: str, authority: CertificateAuthority, name: str) -> StageConnection:
    return StageConnection(Deployment("d", 1, "/nowhere"), STAGE, address, identity(authority, name))


@pytest.fixture
def connection(address: str, authority: CertificateAuthority) -> Iterator[StageConnection]:
    made = connect(address, authority, COORDINATOR_NAME)
    yield made
    made.close()


def send(connection: StageConnection, weights: ModelWeights) -> int:
    """Send manifest and layer; bytes that went out."""
    transfer = Transfer(connection, weights, lambda _: None)
    own = weights.manifest.own_entry
    transfer.send_one(own.name, own.size_bytes)
    transfer.send({piece.name: piece.size_bytes for piece in weights.manifest.pieces})
    return transfer.sent_bytes


def test_a_model_arrives_byte_for_byte(connection: StageConnection, store: LayerStore) -> None:
    weights = weights_of(DATA)
    assert send(connection, weights) == len(DATA) + len(weights.manifest.encoded)
    assert (store.folder(weights.manifest.key) / LAYER).read_bytes() == DATA
    held = connection.store({}, weights.manifest.key)
    assert held.held_bytes[LAYER] == len(DATA) and held.free_bytes > 0 and not held.folder


def test_what_is_there_is_not_sent_again(connection: StageConnection) -> None:
    weights = weights_of(DATA)
    send(connection, weights)
    assert send(connection, weights) == 0


def test_a_transfer_goes_on_from_what_the_node_has(connection: StageConnection, store: LayerStore) -> None:
    weights = weights_of(DATA)
    own = weights.manifest.own_entry
    Transfer(connection, weights, lambda _: None).send_one(own.name, own.size_bytes)
    with pytest.raises(ConnectionError), store.receive(weights.manifest.key, LAYER, len(DATA)) as writer:
        assert writer is not None
        writer.write(DATA[:2_000_000])
        raise ConnectionError
    assert send(connection, weights) == len(DATA) - 2_000_000
    assert (store.folder(weights.manifest.key) / LAYER).read_bytes() == DATA


def test_a_cancelled_transfer_ends_and_keeps_what_came(connection: StageConnection, store: LayerStore) -> None:
    weights = weights_of(DATA)
    transfer = Transfer(connection, weights, lambda _: transfer.cancel())
    with pytest.raises(LaunchError, match="cancelled"):
        transfer.send_one(weights.manifest.own_entry.name, weights.manifest.own_entry.size_bytes)
        transfer.send_one(LAYER, len(DATA))
    send(connection, weights)
    assert store.damaged(store.models()[0]) == []


def test_bytes_that_do_not_match_their_hash_are_refused_by_node(connection: StageConnection, store: LayerStore) -> None:
    weights = weights_of(DATA, sha256="0" * 64)
    with pytest.raises(LaunchError, match=r"node w0, stage 0: bringing model-layer-00000.* does not have the hash"):
        send(connection, weights)
    assert LAYER not in store.held_bytes(weights.manifest.key)


def test_a_damaged_beginning_is_sent_again_by_itself(connection: StageConnection, store: LayerStore) -> None:
    weights = weights_of(DATA)
    own = weights.manifest.own_entry
    Transfer(connection, weights, lambda _: None).send_one(own.name, own.size_bytes)
    (store.folder(weights.manifest.key) / f"{LAYER}.partial").write_bytes(b"nonsense")
    assert send(connection, weights) == 2 * len(DATA) - len(b"nonsense")
    assert store.damaged(store.models()[0]) == []


@pytest.mark.parametrize("name", [stage_name("d", 1), stage_name("d", 0)])
def test_only_the_coordinator_may_send_and_ask(address: str, authority: CertificateAuthority, name: str) -> None:
    other = connect(address, authority, name)
    header = shard_pb2.PutHeader(weights="0" * 64, piece="manifest.json", size_bytes=1)
    with pytest.raises(grpc.RpcError) as put:
        list(other.stub.put(iter([header.SerializeToString(), b"x"]), timeout=10))
    with pytest.raises(grpc.RpcError) as asked:
        other.stub.store(shard_pb2.StoreRequest(), timeout=10)
    other.close()
    assert put.value.code() == asked.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("first", [b"", b"\xff\xff\xff", b"x"])
def test_a_stream_that_does_not_begin_with_a_header_is_refused(connection: StageConnection, first: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(connection.stub.put(iter([first, DATA[:10]]), timeout=10))
    assert caught.value.code() == grpc.StatusCode.DATA_LOSS


def test_more_than_was_announced_is_refused(connection: StageConnection) -> None:
    weights = weights_of(DATA)
    own = weights.manifest.own_entry
    Transfer(connection, weights, lambda _: None).send_one(own.name, own.size_bytes)
    header = shard_pb2.PutHeader(weights=weights.manifest.key, piece=LAYER, size_bytes=len(DATA))
    parts = [DATA[at : at + (1 << 20)] for at in range(0, len(DATA), 1 << 20)]
    with pytest.raises(grpc.RpcError) as caught:
        list(connection.stub.put(iter([header.SerializeToString(), *parts, b"more"]), timeout=10))
    assert caught.value.code() == grpc.StatusCode.DATA_LOSS


def test_a_folder_with_other_files_does_not_count_as_the_models(tmp_path: Path, store: LayerStore) -> None:
    (tmp_path / "config.json").write_text("{}")
    request = shard_pb2.StoreRequest(model_path=str(tmp_path), files={"config.json": 2})
    weights = NodeWeights(store, store_only=False)
    assert weights.describe(request).folder
    request.files["model.safetensors"] = 10
    assert not weights.describe(request).folder
    assert not NodeWeights(store, store_only=True).describe(request).folder
