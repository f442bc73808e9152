"""How fast weights reach a node: Put against a bare stream of 1 MiB messages on the same channel, turn by turn.

Over loopback both ends share this machine's cores, so that whatever Put does besides carrying bytes counts against it;
over a link with a speed (a network namespace, where root may make one) it counts only if it cannot keep up.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlxctl.checkpoint.weights import ModelWeights, Segment
from mlxctl.launch.certificates import CertificateAuthority
from mlxctl.launch.stages import Deployment, StageConnection
from mlxctl.launch.transfer import Transfer
from mlxctl.plan import Stage
from mlxctl.sharding.manifest import Manifest, PieceEntry
from mlxctl.wire.identity import Identity, PrivateKey
from mlxctl.wire.service import COORDINATOR_NAME, stage_name
from tests.benchmarks.put_server import RAW_SERVICE

pytestmark = pytest.mark.performance

ROUNDS = 5
TARGET = 0.7
PIECES = 8
PIECE_BYTES = 32 << 20
TOTAL_BYTES = PIECES * PIECE_BYTES
MESSAGE_BYTES = 1 << 20
MEMORY = Path("/dev/shm")
DEPLOYMENT = "bench"


def identity(authority: CertificateAuthority, name: str) -> Identity:
    key = PrivateKey(name)
    return key.identity(authority.sign(key.request_pem, name), authority.certificate_pem)


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The store's folder: a disk may be slower than the link; memory shows what the protocol costs."""
    if request.param == "disk":
        yield tmp_path / "store"
        return
    if not MEMORY.is_dir():
        pytest.skip(f"there is no {MEMORY}")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


@dataclass(frozen=True, slots=True)
class Link:
    """How the other end is reached: its address, and what to put before a command to run it there."""

    name: str
    address: str
    prefix: tuple[str, ...] = ()


@pytest.fixture(params=["loopback", "1 Gb/s", "2.5 Gb/s"])
def link(request: pytest.FixtureRequest) -> Iterator[Link]:
    if request.param == "loopback":
        yield Link("loopback", "127.0.0.1")
        return
    if os.geteuid() != 0 or not shutil.which("tc"):
        pytest.skip("a link of its own needs root and tc")
    there, outside, inside = (f"{kind}{secrets.token_hex(3)}" for kind in ("ns", "vo", "vi"))
    shaped = f"root tbf rate {request.param.split()[0]}gbit burst 1mb latency 50ms"
    setup = f"""
        ip netns add {there}
        ip link add {outside} type veth peer name {inside} netns {there}
        ip addr add 10.213.7.1/30 dev {outside}
        ip link set {outside} up
        ip -n {there} addr add 10.213.7.2/30 dev {inside}
        ip -n {there} link set {inside} up
        tc qdisc add dev {outside} {shaped}
        tc -n {there} qdisc add dev {inside} {shaped}
    """
    made = subprocess.run(["sh", "-ec", setup], capture_output=True, text=True)
    try:
        if made.returncode:
            pytest.skip(f"cannot make a link: {made.stderr.strip()}")
        yield Link(request.param, "10.213.7.2", ("ip", "netns", "exec", there))
    finally:
        subprocess.run(["ip", "netns", "del", there], check=False, capture_output=True)


@pytest.fixture
def connection(tmp_path: Path, store: Path, link: Link) -> Iterator[StageConnection]:
    """To a worker's service in a process of its own."""
    authority = CertificateAuthority()
    name = stage_name(DEPLOYMENT, 0)
    own = identity(authority, name)
    for file, pem in (("key", own.key), ("certificate", own.certificate), ("authority", own.authority)):
        (tmp_path / f"{file}.pem").write_bytes(pem)
    command = [
        *link.prefix,
        sys.executable,
        "-m",
        "tests.benchmarks.put_server",
        str(tmp_path),
        str(store),
        link.address,
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    while not (tmp_path / "port").exists():
        assert process.poll() is None
        time.sleep(0.05)
    stage = Stage(0, "w0", 0, 0, 1, 0, 0, 0, 0, 0)
    address = f"{link.address}:{(tmp_path / 'port').read_text()}"
    made = StageConnection(Deployment(DEPLOYMENT, 1, ""), stage, address, identity(authority, COORDINATOR_NAME))
    yield made
    made.close()
    process.communicate()


def fresh_weights(folder: Path, number: int) -> ModelWeights:
    """A model that no store has yet."""
    file = folder / f"weights-{number}"
    data = os.urandom(MESSAGE_BYTES) * (PIECE_BYTES // MESSAGE_BYTES)
    file.write_bytes(data * PIECES)
    sha256 = hashlib.sha256(data).hexdigest()
    pieces = tuple(PieceEntry(f"model-layer-{i:05}.safetensors", PIECE_BYTES, sha256, (i,)) for i in range(PIECES))
    segments = {piece.name: (Segment(PIECE_BYTES, file=file, start=i * PIECE_BYTES),) for i, piece in enumerate(pieces)}
    return ModelWeights(Manifest(f"bench-{number}", PIECES, pieces, {}), segments)


def raw_rate(connection: StageConnection) -> float:
    """Bytes a second of a stream that only carries bytes."""
    message = os.urandom(MESSAGE_BYTES)
    call = connection.channel.stream_unary(f"/{RAW_SERVICE}/Swallow")
    began_s = time.perf_counter()
    taken = call(message for _ in range(TOTAL_BYTES // MESSAGE_BYTES))
    assert int(taken) == TOTAL_BYTES
    return TOTAL_BYTES / (time.perf_counter() - began_s)


def put_rate(connection: StageConnection, weights: ModelWeights) -> float:
    """Bytes a second from the files here to the hashed, synced files there."""
    transfer = Transfer(connection, weights, lambda _: None)
    own = weights.manifest.own_entry
    transfer.send_one(own.name, own.size_bytes)
    began_s = time.perf_counter()
    transfer.send({piece.name: piece.size_bytes for piece in weights.manifest.pieces})
    return TOTAL_BYTES / (time.perf_counter() - began_s)


def file_rate(folder: Path) -> float:
    """Bytes a second into a synced file in `folder`."""
    folder.mkdir(exist_ok=True)
    message = os.urandom(MESSAGE_BYTES)
    began_s = time.perf_counter()
    with (folder / "plain").open("wb", buffering=0) as file:
        for _ in range(TOTAL_BYTES // MESSAGE_BYTES):
            file.write(message)
        os.fsync(file.fileno())
    (folder / "plain").unlink()
    return TOTAL_BYTES / (time.perf_counter() - began_s)


def test_put_against_a_bare_stream(
    connection: StageConnection, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, put, file = [raw_rate(connection)], [], []
    with capsys.disabled():
        for number in range(ROUNDS):
            put.append(put_rate(connection, fresh_weights(tmp_path, number)))
            raw.append(raw_rate(connection))
            file.append(file_rate(store))
            ratio = put[-1] / ((raw[-1] + raw[-2]) / 2)
            bare, sent, alone = (f"{each[-1] / 1e6:.0f} MB/s" for each in (raw, put, file))
            print(f"\nround {number}: bare {bare}, Put {sent}, file {alone}, {ratio:.2f}", end="")
        ratios = [each / ((raw[i] + raw[i + 1]) / 2) for i, each in enumerate(put)]
        median = statistics.median(ratios)
        print(
            f"\nmedian: Put {statistics.median(put) / 1e6:.0f} MB/s, {median:.2f} of a bare stream, at least {TARGET}"
        )
        print(f"a synced file alone: {statistics.median(file) / 1e6:.0f} MB/s")
